"""What is stored of second factors, and their codes: TOTP (RFC 6238), by piccolo-api.

A code works once, however many try it at the same time; a wrong one counts as a failed sign-in.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import Any

from piccolo.columns import BigInt, ForeignKey, OnDelete
from piccolo.constraints import Unique
from piccolo_api.encryption.providers import EncryptionProvider
from piccolo_api.mfa.authenticator.tables import AuthenticatorSecret as StockSecret

from audit.database import Database, Record
from audit.log import Logger
from audit.record import record
from home.accounts import throttle
from home.accounts.verified_account import VerifiedAccount, account_of
from home.database.engine import Engine
from home.tables import User, engine_of

STEP_SECONDS = 30

READ = """
    SELECT secret, recovery_codes, last_used_step FROM authenticator_secrets
    WHERE user_id = $1 FOR UPDATE
"""
USE_CODE = "UPDATE authenticator_secrets SET last_used_step = $2 WHERE user_id = $1"
USE_RECOVERY_CODE = """
    UPDATE authenticator_secrets SET recovery_codes = array_remove(recovery_codes, $2)
    WHERE user_id = $1
"""
# Locks the account first: nothing is taken from one that is not what was verified any more.
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
        account = await account_of(db, user_id)
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
    used = row["last_used_step"] or 0
    # A step that is too far ahead was used while the clock was.
    if step is not None and (step > used or used > step + 2):
        await db.execute(USE_CODE, user_id, step)
        return True
    digest = digest_of(code)
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


def digest_of(code: str) -> str:
    """Return what is stored of a recovery code: 80 random bits, whose digest nobody turns back."""
    return hashlib.sha256(code.lower().encode("utf-8", "replace")).hexdigest()
