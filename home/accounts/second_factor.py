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
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from piccolo.columns import BigInt, ForeignKey, OnDelete
from piccolo.constraints import Unique
from piccolo_api.encryption.providers import EncryptionProvider, XChaCha20Provider
from piccolo_api.mfa.authenticator.tables import AuthenticatorSecret as StockSecret

from audit.context import identify
from audit.database import Database, Record
from audit.errors import GroundworkError
from audit.log import Logger
from audit.record import record
from home.accounts import sessions, throttle
from home.accounts.sessions import VerifiedAccount
from home.database.engine import Engine
from home.services import Services
from home.tables import User, engine_of

if TYPE_CHECKING:
    from piccolo_api.mfa.authenticator.provider import AuthenticatorProvider

ISSUER = "Groundwork"
STEP_SECONDS = 30
SETUP_SECONDS = 600
RECOVERY_CODES = 8
TOO_LATE = "This took longer than ten minutes. Begin again."

READ = """
    SELECT secret, recovery_codes, last_used_step FROM authenticator_secrets
    WHERE user_id = $1 FOR UPDATE
"""
USE_CODE = "UPDATE authenticator_secrets SET last_used_step = $2 WHERE user_id = $1"
USE_RECOVERY_CODE = """
    UPDATE authenticator_secrets SET recovery_codes = array_remove(recovery_codes, $2)
    WHERE user_id = $1
"""
# Each locks the account first, and does nothing once it is not what was verified any more. Storing
# a factor makes it another one, so that what began under the same version can be confirmed once.
STORE = """
    WITH account AS (
        SELECT id FROM users
        WHERE id = $1 AND credentials_version = $2 AND is_approved AND NOT is_disabled
        FOR NO KEY UPDATE
    )
    INSERT INTO authenticator_secrets (user_id, secret, recovery_codes, last_used_step)
    SELECT id, $3, $4, $5 FROM account
    ON CONFLICT (user_id) DO UPDATE
    SET secret = excluded.secret, recovery_codes = excluded.recovery_codes,
        last_used_step = excluded.last_used_step, created_at = now()
    RETURNING user_id
"""
REMOVE = """
    WITH account AS (
        SELECT id FROM users WHERE id = $1 AND ($2::integer IS NULL OR credentials_version = $2)
        FOR NO KEY UPDATE
    )
    DELETE FROM authenticator_secrets USING account WHERE user_id = account.id RETURNING user_id
"""

log = Logger("groundwork.accounts")


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
        """Return whether this person has a second factor."""
        return await cls.exists().where(cls.user_id == user_id)

    @classmethod
    async def revoke(cls, user_id: int) -> None:
        """Take a person's second factor away, which ends their sessions."""
        await remove(engine_of(cls), user_id)

    @classmethod
    async def authenticate(
        cls,
        user_id: int,
        code: str,
        encryption_provider: EncryptionProvider,
        valid_window: int = 0,
    ) -> bool:
        """Return whether a code, or a recovery code, is good; it is used up.

        Raises:
            throttle.Throttled: this account has failed too often.
        """
        db = engine_of(cls)
        account = await sessions.account_of(db, user_id)
        return await use_code(db, account, code, encryption_provider)


async def use_code(
    db: Engine, account: VerifiedAccount, code: object, encryption: EncryptionProvider
) -> bool:
    """Return whether a code, or a recovery code, is good; it is used up. A wrong one is a failure.

    Raises:
        throttle.Throttled: this account has failed too often.
    """
    attempt = throttle.attempt_at(account.email, account.device)
    async with throttle.turn(db, attempt):
        row = await db.fetchrow(READ, account.user_id)
        if row and await _use(db, account.user_id, str(code).replace(" ", ""), row, encryption):
            return True
        details = attempt.details(factor="code")
        await record(db, "sign_in.failed", throttle.RESOURCE, attempt.account, details)
    return False


async def _use(
    db: Database, user_id: int, code: str, row: Record, encryption: EncryptionProvider
) -> bool:
    try:
        step = matching_step(encryption.decrypt(row["secret"]), code)
    except Exception as error:  # pynacl's own, where MFA_KEY is another one now
        log.error("second_factor_unreadable", error=type(error).__name__)
        step = None
    if step is not None and step > (row["last_used_step"] or 0):
        await db.execute(USE_CODE, user_id, step)
        return True
    digest = _digest(code)
    if digest in row["recovery_codes"]:
        await db.execute(USE_RECOVERY_CODE, user_id, digest)
        return True
    return False


async def remove(db: Database, user_id: int, version: int | None = None) -> bool:
    """Take a person's second factor away, which ends their sessions; return whether there was one.

    Args:
        version: of the account that was verified; under another one nothing is done.
    """
    return await db.fetchval(REMOVE, user_id, version) is not None


def matching_step(secret: str, code: str) -> int | None:
    """Return the period of 30 s that a code belongs to, of three: clocks differ."""
    import pyotp

    now = int(time.time()) // STEP_SECONDS
    for step in (now, now - 1, now + 1):
        if hmac.compare_digest(pyotp.TOTP(secret).generate_otp(step).encode(), code.encode()):
            return step
    return None


class SetupFailed(GroundworkError):
    """No second factor was stored; the message says why."""

    status, code = 422, "invalid"


class WrongCode(SetupFailed):
    """This code does not fit. Is the clock of your phone right?"""


class Setup(NamedTuple):
    """A second factor that waits for a code.

    Args:
        version: of the account whose password was right, see VerifiedAccount.
        secret: in base 32.
        until: seconds since the epoch.
    """

    user_id: int
    email: str
    version: int
    secret: str
    until: float


class SecondFactor:
    """Setting one up, and asking for it.

    Args:
        key: `MFA_KEY`; without it nobody can set one up.
    """

    def __init__(self, db: Engine, key: str | None) -> None:
        self.db = db
        self.is_available = key is not None
        # Without a key nothing that is stored can be read, which fails closed.
        usable = hashlib.sha256(key.encode()).digest() if key else secrets.token_bytes(32)
        self.encryption = XChaCha20Provider(usable)

    @classmethod
    def of(cls, services: Services) -> SecondFactor:
        """Return the one that `MFA_KEY` makes."""
        key = services.settings.mfa_key
        return cls(services.db, key.get_secret_value() if key else None)

    def provider(self) -> AuthenticatorProvider:
        """Return what the back office's own sign-in asks."""
        from piccolo_api.mfa.authenticator.provider import AuthenticatorProvider

        return AuthenticatorProvider(
            self.encryption, secret_table=AuthenticatorSecret, issuer_name=ISSUER
        )

    async def is_asked_of(self, user_id: int) -> bool:
        """Return whether this person has set one up."""
        return await AuthenticatorSecret.is_user_enrolled(user_id)

    async def accepts(self, account: VerifiedAccount, code: str) -> bool:
        """Return whether the code, or recovery code, is good; it is used up.

        Raises:
            throttle.Throttled: this account has failed too often.
        """
        return await use_code(self.db, account, code, self.encryption)

    def begin(self, account: VerifiedAccount) -> Setup:
        """Make a new secret, stored nowhere yet."""
        secret = AuthenticatorSecret.generate_secret()
        return Setup(account.user_id, account.email, account.version, secret, _deadline())

    def token(self, setup: Setup) -> str:
        """Return what the browser keeps until it confirms, and cannot read or change."""
        return self.encryption.encrypt(json.dumps(setup))

    def picture(self, secret: str, email: str) -> str:
        """Return the QR code for the app, as an SVG."""
        import pyotp
        import qrcode
        from qrcode.image.svg import SvgPathImage

        uri = pyotp.TOTP(secret).provisioning_uri(name=email, issuer_name=ISSUER)
        image = qrcode.make(uri, image_factory=SvgPathImage, box_size=16)
        return cast(str, image.to_string(encoding="unicode"))

    def opened(self, token: str) -> Setup:
        """Return what a token of `token` holds.

        Raises:
            SetupFailed: it is too old, or no such token.
        """
        try:
            setup = Setup(*json.loads(self.encryption.decrypt(token)))
        except Exception:  # pynacl's own, ValueError ...: no such token
            raise SetupFailed(TOO_LATE) from None
        if setup.until < time.time():
            raise SetupFailed(TOO_LATE)
        return setup

    async def confirm(self, setup: Setup, code: str) -> Sequence[str]:
        """Store the secret, now that a code shows that the app has it. It ends all sessions.

        Returns:
            Recovery codes, which are shown this once.

        Raises:
            WrongCode: the code is wrong.
            SetupFailed: the account is not any more what it was when this began.
        """
        step = matching_step(setup.secret, code.replace(" ", ""))
        if step is None:
            raise WrongCode
        codes = ["-".join(secrets.token_hex(2) for _ in range(5)) for _ in range(RECOVERY_CODES)]
        digests = [_digest(each) for each in codes]
        secret = self.encryption.encrypt(setup.secret)
        identify(setup.email, setup.user_id)
        stored = await self.db.fetchval(STORE, setup.user_id, setup.version, secret, digests, step)
        if stored is None:
            raise SetupFailed("Your account has changed since you began. Begin again.")
        return codes


def _deadline() -> float:
    return time.time() + SETUP_SECONDS


def _digest(code: str) -> str:
    """Return what is stored of a recovery code: 80 random bits, whose digest nobody turns back."""
    return hashlib.sha256(code.lower().encode("utf-8", "replace")).hexdigest()
