"""The same in a bucket."""

from __future__ import annotations

from datetime import UTC, datetime

import boto3
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from audit.archive.locking import _signed
from audit.archive.moving import archive_step
from audit.archive.reading import Archive
from audit.archive.store import ArchiveUnavailable
from audit.filters import Filters
from audit.prune import prune
from audit.reading import page
from audit.verify import verify
from home.database.engine import Engine
from tests.audit.archive.trails import TOMORROW, everything, moved, nasty
from tests.audit.trails import KEYS, fill, seal_three_times

pytestmark = pytest.mark.any_version


async def test_everything_is_as_it_was(db: Engine, s3_archive: Archive) -> None:
    await nasty(db)
    await fill(db, 1, 20)
    last = await db.fetchval("SELECT max(id) FROM audit_logs")
    before = await everything(db, last)
    await moved(s3_archive)
    assert await everything(db, last, s3_archive) == before
    assert (await verify(db, KEYS, archive=s3_archive)).problem is None
    await prune(db, TOMORROW, KEYS, archive=s3_archive)
    assert s3_archive.store.names() == []


async def test_a_file_that_is_not_there_is_named(db: Engine, s3_archive: Archive) -> None:
    await seal_three_times(db)
    assert await archive_step(s3_archive, KEYS, TOMORROW)
    [name] = s3_archive.store.names()
    s3_archive.store.delete(name)
    problem = (await verify(db, KEYS, archive=s3_archive)).problem
    assert problem is not None
    assert (problem.kind, problem.message) == ("archive_missing", f"the archive has no file {name}")


async def test_a_server_that_does_not_answer(
    db: Engine, s3_archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    await seal_three_times(db)
    assert await archive_step(s3_archive, KEYS, TOMORROW)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    away = Archive(db, s3_archive.store.root)
    with pytest.raises(ArchiveUnavailable):
        await page(db, Filters(resource="users"), archive=away)
    with pytest.raises(ArchiveUnavailable):
        await verify(db, KEYS, archive=away)
    assert (await page(db, Filters(), size=1, archive=away)).rows


async def test_files_are_locked(db: Engine, bucket: str, s3_server: str) -> None:
    await seal_three_times(db)
    archive = Archive(db, bucket, "10 years")
    assert await archive_step(archive, KEYS, TOMORROW)
    [name] = archive.store.names()
    client = boto3.client("s3", endpoint_url=s3_server, region_name="eu-central-1")
    where = {"Bucket": bucket.split("/")[2], "Key": f"old/{name}"}
    found = client.head_object(**where)
    assert found["ObjectLockMode"] == "COMPLIANCE"
    assert 3_650 < (found["ObjectLockRetainUntilDate"] - datetime.now(UTC)).days < 3_655
    version = found["VersionId"]
    with pytest.raises(ClientError, match="AccessDenied"):
        client.delete_object(**where, VersionId=version)


async def test_a_file_that_cannot_be_locked_is_not_used(
    db: Engine, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await seal_three_times(db)
    monkeypatch.setattr("audit.archive.locking.SECONDS", 1e-9)
    with pytest.raises(ArchiveUnavailable, match="could not be locked"):
        await archive_step(Archive(db, bucket, "10 years"), KEYS, TOMORROW)
    assert (await verify(db, KEYS)).verified == 28


def test_the_signature_is_that_of_the_other_implementation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    headers = _signed("s3.example.com", "/trail/old/a%3Db", b"<x/>", "eu-central-1")
    given = headers.pop("authorization")
    request = AWSRequest(
        "PUT", "https://s3.example.com/trail/old/a%3Db?retention=", headers, b"<x/>"
    )
    request.context["timestamp"] = headers["x-amz-date"]
    auth = S3SigV4Auth(Credentials("id", "secret"), "s3", "eu-central-1")
    request.context["signing"] = {"disableDoubleEncoding": True}
    text = auth.string_to_sign(request, auth.canonical_request(request))
    assert given.endswith(f"Signature={auth.signature(text, request)}")
