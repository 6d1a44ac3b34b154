"""Second factors: codes of an authenticator app (TOTP, RFC 6238), by piccolo-api's authenticator.

What is different here: a secret counts only once a code has proven that the app has it; a code
works once, however many try it at the same time; a wrong code counts as a failed sign-in.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Sequence
from typing import Any, cast

import structlog
from piccolo.columns import BigInt, ForeignKey, OnDelete
from piccolo.constraints import Unique
from piccolo_api.encryption.providers import EncryptionProvider, XChaCha20Provider
from piccolo_api.mfa.authenticator.provider import AuthenticatorProvider
from piccolo_api.mfa.authenticator.tables import AuthenticatorSecret as StockSecret

from audit.errors import GroundworkError
from audit.record import record
from home.accounts import throttle
from home.config.settings import Settings
from home.tables import User

ISSUER = "Groundwork"
STEP_SECONDS = 30
SETUP_SECONDS = 600
RECOVERY_CODES = 8

READ = """
    SELECT secret, recovery_codes, last_used_step FROM authenticator_secrets
    WHERE user_id = $1 FOR UPDATE
"""
USE_CODE = "UPDATE authenticator_secrets SET last_used_step = $2 WHERE user_id = $1"
USE_RECOVERY_CODE = """
    UPDATE authenticator_secrets SET recovery_codes = array_remove(recovery_codes, $2)
    WHERE user_id = $1
"""
STORE = """
    INSERT INTO authenticator_secrets (user_id, secret, recovery_codes, last_used_step)
    VALUES ($1, $2, $3, $4)
    ON CONFLICT (user_id) DO UPDATE
    SET secret = excluded.secret, recovery_codes = excluded.recovery_codes,
        last_used_step = excluded.last_used_step, created_at = now()
"""

log = structlog.get_logger("groundwork.accounts")


class AuthenticatorSecret(StockSecret, tablename="authenticator_secrets"):
    """A person's authenticator app, and what is left of their recovery codes (SHA-256, in hex)."""

    user_id: Any = ForeignKey(User, null=False, default=None, on_delete=OnDelete.cascade)
    last_used_step = BigInt(null=True, default=None, help_text="No code of it, or before, works.")

    authenticator_secrets_user_id_unique = Unique([user_id])

    recovery_codes_used_at: Any = None
    revoked_at: Any = None
    last_used_at: Any = None
    last_used_code: Any = None

    @classmethod
    async def is_user_enrolled(cls, user_id: int) -> bool:
        return await cls.exists().where(cls.user_id == user_id)

    @classmethod
    async def revoke(cls, user_id: int) -> None:
        await cls.delete().where(cls.user_id == user_id)

    @classmethod
    async def authenticate(
        cls,
        user_id: int,
        code: str,
        encryption_provider: EncryptionProvider,
        valid_window: int = 0,
    ) -> bool:
        """Whether a code, or a recovery code, is good; it is used up. A wrong one is recorded."""
        async with cls._meta.db.transaction() as transaction:
            row = await transaction.connection.fetchrow(READ, user_id)
            if row and await _use(transaction.connection, user_id, code, row, encryption_provider):
                return True
        email = await User.select(User.email).where(User.id == user_id).first()
        key = throttle.account_key(email["email"] if email else "")
        await record("sign_in.failed", throttle.RESOURCE, key, {"factor": "code"})
        return False


async def _use(
    connection: Any, user_id: int, code: Any, row: Any, encryption: EncryptionProvider
) -> bool:
    code = str(code).replace(" ", "")
    try:
        step = matching_step(encryption.decrypt(row["secret"]), code)
    except Exception as error:  # pynacl's own, where MFA_KEY is another one now
        log.error("second_factor_unreadable", error=type(error).__name__)
        step = None
    if step is not None and step > (row["last_used_step"] or 0):
        await connection.execute(USE_CODE, user_id, step)
        return True
    digest = _digest(code)
    if digest in row["recovery_codes"]:
        await connection.execute(USE_RECOVERY_CODE, user_id, digest)
        return True
    return False


def matching_step(secret: str, code: str) -> int | None:
    """The period of 30 s that a code belongs to: now, or one before or after (clocks differ)."""
    import pyotp

    now = int(time.time()) // STEP_SECONDS
    for step in (now, now - 1, now + 1):
        if hmac.compare_digest(pyotp.TOTP(secret).generate_otp(step).encode(), code.encode()):
            return step
    return None


class SecondFactor:
    """Setting one up, asking for it and taking it away.

    Args:
        key: `MFA_KEY`; without it nobody can set one up.
    """

    def __init__(self, key: str | None) -> None:
        self.is_available = key is not None
        # Without a key nothing that is stored can be read, which fails closed.
        usable = hashlib.sha256(key.encode()).digest() if key else secrets.token_bytes(32)
        self.encryption = XChaCha20Provider(usable)

    @classmethod
    def of(cls, settings: Settings) -> SecondFactor:
        """Make it with the key of the settings."""
        return cls(settings.mfa_key.get_secret_value() if settings.mfa_key else None)

    def provider(self) -> AuthenticatorProvider:
        """What the back office's own sign-in asks."""
        return AuthenticatorProvider(
            self.encryption, secret_table=AuthenticatorSecret, issuer_name=ISSUER
        )

    async def is_asked_of(self, user_id: int) -> bool:
        """Whether this person has set one up."""
        return await AuthenticatorSecret.is_user_enrolled(user_id)

    async def accepts(self, user_id: int, code: str) -> bool:
        """Whether the code, or recovery code, is good; it is used up."""
        return await AuthenticatorSecret.authenticate(user_id, code, self.encryption)

    def begin(self, user_id: int) -> tuple[str, str]:
        """A new secret, stored nowhere yet.

        Returns:
            The secret in base 32, and the token that `confirm` needs within ten minutes.
        """
        secret = AuthenticatorSecret.generate_secret()
        setup = {"user_id": user_id, "secret": secret, "until": time.time() + SETUP_SECONDS}
        return secret, self.encryption.encrypt(json.dumps(setup))

    def picture(self, secret: str, email: str) -> str:
        """The QR code for the app, as a data: URI."""
        import pyotp
        import qrcode
        from qrcode.image.svg import SvgPathImage

        uri = pyotp.TOTP(secret).provisioning_uri(name=email, issuer_name=ISSUER)
        image = qrcode.make(uri, image_factory=SvgPathImage, box_size=16)
        return cast(str, image.to_string(encoding="unicode"))

    def _opened(self, token: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads(self.encryption.decrypt(token))
        except Exception:  # pynacl's own, ValueError ...: no such token
            return None
        return found

    def secret_of(self, token: str) -> str | None:
        """The secret that a token of `begin` holds, while it may still be confirmed."""
        setup = self._opened(token)
        return setup["secret"] if setup and setup["until"] >= time.time() else None

    async def confirm(self, token: str, code: str) -> Sequence[str]:
        """Store the secret, now that a code shows that the app has it.

        Returns:
            Recovery codes, which are shown this once.

        Raises:
            SetupFailed: the code is wrong, or the token is too old or no such token.
        """
        setup = self._opened(token)
        if setup is None or setup["until"] < time.time():
            raise SetupFailed("This took longer than ten minutes. Begin again.")
        step = matching_step(setup["secret"], code.replace(" ", ""))
        if step is None:
            raise SetupFailed("This code does not fit. Is the clock of your phone right?")
        codes = ["-".join(secrets.token_hex(2) for _ in range(5)) for _ in range(RECOVERY_CODES)]
        await cast(Any, User._meta.db).fetch(
            STORE,
            setup["user_id"],
            self.encryption.encrypt(setup["secret"]),
            [_digest(each) for each in codes],
            step,
        )
        return codes


class SetupFailed(GroundworkError):
    """No second factor was stored; the message says why."""

    status, code = 422, "invalid"


def _digest(code: str) -> str:
    """Recovery codes have 80 random bits: a plain digest cannot be turned back."""
    return hashlib.sha256(code.lower().encode("utf-8", "replace")).hexdigest()
