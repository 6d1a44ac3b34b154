"""R16: Patroni decides which of two servers is the primary; nobody tells the application."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

import pytest

from home.database.migrations import migrate
from tests.conftest import missing, point_at
from tests.faults.load import Load, under_load
from tests.live import Live, running
from tests.patroni import INSTALL, Cluster, Member, is_installed
from tests.postgres import INSTALL as INSTALL_POSTGRES
from tests.postgres import find_binaries

pytestmark = [pytest.mark.direct, pytest.mark.long]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    binaries = find_binaries()
    if binaries is None:
        missing("PostgreSQL", INSTALL_POSTGRES)
    if not is_installed():
        missing("Patroni", INSTALL)
    assert binaries is not None
    cluster = Cluster(binaries)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()


async def test_a_switchover_and_a_failover_of_patroni_lose_nothing(cluster: Cluster) -> None:
    await migrate(point_at(cluster.url()))
    with running(cluster.url()) as live:
        async with under_load(live.address) as load:
            switched = await change(cluster, live, load, lambda _: cluster.switch_over())
            failed_over = await change(cluster, live, load, Member.kill_postgres)
        count = await load.count(cluster.url_of_leader())
    print(
        f"R16, Patroni: {count.acknowledged} acknowledged, {count.found} found, {count.lost} lost,"
        f" {count.duplicated} twice; {len(load.refused)} x 503; writes again {switched:.1f} s after"
        f" a switchover began, {failed_over:.1f} s after the primary was killed"
    )
    assert load.wrong == []
    assert (count.lost, count.duplicated) == (0, 0)


async def change(cluster: Cluster, live: Live, load: Load, do: Callable[[Member], None]) -> float:
    """Seconds until a change is acknowledged by another leader, which has a standby then."""
    leader = await asyncio.to_thread(cluster.leader)
    assert leader is not None
    started = time.monotonic()
    doing = asyncio.create_task(asyncio.to_thread(do, leader))
    others = [member for member in cluster.members if member is not leader]
    async with asyncio.timeout(60):
        while not live.connections_to(others[0].port) or max(load.acknowledged.values()) < started:
            await asyncio.sleep(0.01)
        before = len(load.acknowledged)
        while len(load.acknowledged) == before:
            await asyncio.sleep(0.002)
    took = time.monotonic() - started
    await doing
    await asyncio.to_thread(cluster.until, cluster.is_synchronous)
    await load.until_acknowledged(20)
    assert live.connections_to(leader.port) == 0
    return took
