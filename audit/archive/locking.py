"""S3's object lock: nobody can delete a file before a day, not even the owner of the bucket.

`obstore` cannot ask for it. The request is signed as of AWS Signature Version 4.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

import httpx

from audit.archive.store import ArchiveUnavailable

BODY = """<Retention xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Mode>COMPLIANCE</Mode>\
<RetainUntilDate>{until:%Y-%m-%dT%H:%M:%SZ}</RetainUntilDate></Retention>"""
QUERY = "retention="
SECONDS = 20.0
NAMES = ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")


def lock(url: str, until: datetime) -> None:
    """Lock `s3://bucket/key` until a moment.

    Raises:
        ArchiveUnavailable: it could not be locked.
    """
    bucket, _, key = url.removeprefix("s3://").partition("/")
    content = BODY.format(until=until.astimezone(UTC)).encode()
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    endpoint = os.environ.get("AWS_ENDPOINT_URL") or f"https://s3.{region}.amazonaws.com"
    address = f"{endpoint.rstrip('/')}/{bucket}/{quote(key)}"
    checksum = hashlib.md5(content, usedforsecurity=False).digest()
    headers = {
        "content-md5": base64.b64encode(checksum).decode(),
        **_signed(urlsplit(address).netloc, urlsplit(address).path, content, region),
    }
    try:
        answer = httpx.put(f"{address}?{QUERY}", content=content, headers=headers, timeout=SECONDS)
    except httpx.HTTPError as error:
        raise ArchiveUnavailable(f"{url} could not be locked: {error}") from error
    if answer.status_code != 200:
        raise ArchiveUnavailable(
            f"{url} could not be locked ({answer.status_code}); "
            "AUDIT_ARCHIVE_LOCK needs a bucket that was made with object lock"
        )


def _signed(host: str, path: str, content: bytes, region: str) -> dict[str, str]:
    """Return the headers that sign a PUT."""
    identity, secret = (os.environ.get(f"AWS_{name}", "") for name in NAMES)
    if not identity or not secret:
        raise ArchiveUnavailable("AUDIT_ARCHIVE_LOCK needs AWS_ACCESS_KEY_ID, and its secret")
    now = datetime.now(UTC)
    moment, day = f"{now:%Y%m%dT%H%M%SZ}", f"{now:%Y%m%d}"
    digest = hashlib.sha256(content).hexdigest()
    headers = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": moment}
    if token := os.environ.get("AWS_SESSION_TOKEN"):
        headers["x-amz-security-token"] = token
    listed, names = "".join(f"{k}:{v}\n" for k, v in headers.items()), ";".join(headers)
    request = f"PUT\n{path}\n{QUERY}\n{listed}\n{names}\n{digest}"
    scope = f"{day}/{region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    return headers | {
        "authorization": f"AWS4-HMAC-SHA256 Credential={identity}/{scope}, "
        f"SignedHeaders={names}, Signature={signature}"
    }
