"""An archive in a folder or in a bucket, and a trail to move there."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from audit.archive.reading import Archive
from home.database.engine import Engine

_numbers = itertools.count(1)


@pytest.fixture
def archive(db: Engine, tmp_path: Path) -> Archive:
    return Archive(db, str(tmp_path / "archive"))


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of a server that speaks S3."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty bucket, with the usual variables."""
    for name, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "eu-central-1",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", endpoint_url=s3_server, region_name="eu-central-1")
    place: Any = {"LocationConstraint": "eu-central-1"}
    name = f"trail-{next(_numbers)}"
    client.create_bucket(
        Bucket=name, CreateBucketConfiguration=place, ObjectLockEnabledForBucket=True
    )
    return f"s3://{name}/old"


@pytest.fixture
def s3_archive(db: Engine, bucket: str) -> Archive:
    return Archive(db, bucket)
