"""Beside the requests old rows leave the table: archived, or pruned."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pydantic import SecretStr

import piccolo_conf_test as piccolo_conf
from audit.archive.moving import archive_step
from audit.archived import archive_of
from audit.jobs import Job
from audit.keeping import BETWEEN_STEPS, jobs
from audit.removals import NotTheOwner
from audit.verify import verify
from home.database.engine import Engine
from home.services import Services
from tests.audit.trails import KEY, KEYS, seal_three_times, tamper

pytestmark = pytest.mark.any_version


def services_with(db: Engine, **changed: object) -> Services:
    return Services(db, piccolo_conf.SETTINGS.model_copy(update=changed))


def named(services: Services, name: str) -> Job:
    [job] = [each for each in jobs(services) if each.name == name]
    return job


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, object]:
    return {
        "audit_keep": "13 months",
        "audit_archive": str(tmp_path / "archive"),
        "audit_seal_key": SecretStr(KEY),
    }


async def test_it_archives_in_steps(db: Engine, settings: dict[str, object]) -> None:
    await seal_three_times(db)
    services = services_with(db, **settings)
    job = named(services, "archive the trail")
    assert await job.run() == BETWEEN_STEPS
    assert await job.run() is None
    report = await verify(db, KEYS, archive=archive_of(services))
    assert (report.problem, report.archived) == (None, 28)


async def test_it_makes_no_small_files(db: Engine, settings: dict[str, object]) -> None:
    await seal_three_times(db)
    services = services_with(db, **settings)
    job = named(services, "archive the trail")
    [at] = await db.fetch("SELECT created_at FROM audit_logs WHERE id = 12")
    archive = archive_of(services)
    assert archive is not None
    await archive_step(archive, KEYS, at["created_at"])
    assert await job.run() is None  # two seals are due
    assert await db.fetchval("SELECT count(*) FROM audit_archives") == 1
    await tamper(db, "UPDATE audit_archives SET created_at = now() - interval '31 days'")
    assert await job.run() == BETWEEN_STEPS


async def test_without_an_archive_it_prunes(db: Engine) -> None:
    await seal_three_times(db)
    job = named(
        services_with(db, audit_keep="13 months", audit_seal_key=SecretStr(KEY)), "prune the trail"
    )
    assert await job.run() == BETWEEN_STEPS
    assert await job.run() is None
    report = await verify(db, KEYS)
    assert (report.problem, report.pruned) == (None, 28)


async def test_what_is_young_stays(db: Engine) -> None:
    await seal_three_times(db)
    job = named(
        services_with(db, audit_keep="20 years", audit_seal_key=SecretStr(KEY)), "prune the trail"
    )
    assert await job.run() is None
    assert (await verify(db, KEYS)).verified == 28


async def test_without_audit_keep_everything_stays(db: Engine, settings: dict[str, object]) -> None:
    names = [job.name for job in jobs(services_with(db, **settings | {"audit_keep": None}))]
    assert names == ["seal the trail"]


@pytest.mark.parametrize("name", ["archive the trail", "prune the trail"])
async def test_who_does_not_own_the_trail_is_told_the_command(
    db: Engine, settings: dict[str, object], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await seal_three_times(db)
    kept = settings if name.startswith("archive") else settings | {"audit_archive": None}
    job = named(services_with(db, **kept), name)
    monkeypatch.setattr("audit.removals.IS_OWNER", "SELECT false")
    with pytest.raises(NotTheOwner, match=r"run `piccolo audit (archive|prune) .*--yes`"):
        await job.run()


async def test_of_several_processes_one_prunes(db: Engine, settings: dict[str, object]) -> None:
    await seal_three_times(db)
    services = services_with(db, **settings | {"audit_archive": None})
    job = named(services, "prune the trail")
    done = await asyncio.gather(*(job.run() for _ in range(3)))
    assert sorted(done, key=str) == [BETWEEN_STEPS, None, None]
    removed = "SELECT count(*) FROM audit_logs WHERE action = 'audit.prune'"
    assert await db.fetchval(removed) == 1
