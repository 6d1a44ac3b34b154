"""Setting up a second factor, and asking for it: a secret counts once a code has proven that the
person's app has it."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

from piccolo_api.encryption.providers import XChaCha20Provider

from audit.context import identify
from audit.errors import GroundworkError
from home.accounts.authenticator import AuthenticatorSecret, digest_of, matching_step, use_code
from home.accounts.verified_account import VerifiedAccount
from home.database.engine import Engine
from home.services import Services

if TYPE_CHECKING:
    from piccolo_api.mfa.authenticator.provider import AuthenticatorProvider

SETUP_SECONDS = 600
RECOVERY_CODES = 8
PROOF = "password verified"  # else a Setup could be taken for one
TOO_LATE = "This took longer than ten minutes. Begin again."

# Locks the account first, and does nothing once it is not what was verified any more. Storing a
# factor makes it another one, so that what began under the same version can be confirmed once.
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
            self.encryption, secret_table=AuthenticatorSecret, issuer_name=self.db.settings.app_name
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

    def proof(self, account: VerifiedAccount) -> str:
        """Return what the browser keeps between password and code, and cannot read or change."""
        return self.encryption.encrypt(json.dumps([PROOF, *account, _deadline()]))

    def proven(self, text: str) -> VerifiedAccount:
        """Return whose password was right, of a text of `proof`.

        Raises:
            SetupFailed: it is too old, or no such text.
        """
        try:
            kind, *account, until = json.loads(self.encryption.decrypt(text))
            verified = VerifiedAccount(*account)
        except Exception:  # pynacl's own, ValueError ...: no such text
            raise SetupFailed(TOO_LATE) from None
        if kind != PROOF or until < time.time():
            raise SetupFailed(TOO_LATE)
        identify(verified.email, verified.user_id)
        return verified

    def picture(self, secret: str, email: str) -> str:
        """Return the QR code for the app, as an SVG."""
        import pyotp
        import qrcode
        from qrcode.image.svg import SvgPathImage

        issuer = self.db.settings.app_name
        uri = pyotp.TOTP(secret).provisioning_uri(name=email, issuer_name=issuer)
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
        if not 0 <= setup.until - time.time() <= SETUP_SECONDS:  # or its clock was ahead
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
        digests = [digest_of(each) for each in codes]
        secret = self.encryption.encrypt(setup.secret)
        identify(setup.email, setup.user_id)
        stored = await self.db.fetchval(STORE, setup.user_id, setup.version, secret, digests, step)
        if stored is None:
            raise SetupFailed("Your account has changed since you began. Begin again.")
        return codes


def _deadline() -> float:
    return time.time() + SETUP_SECONDS
