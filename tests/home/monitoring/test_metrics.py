"""Figures for Prometheus: parsed as Prometheus would, for those who may see them."""

from __future__ import annotations

from ipaddress import ip_network

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

import piccolo_conf
from home.tables import User
from tests.conftest import PASSWORD, browser, client_with, create_app, point_at

pytestmark = pytest.mark.any_version


async def figures(client: httpx.AsyncClient) -> dict[str, float]:
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    found = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            labels = ",".join(sample.labels.values())
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


async def test_it_counts_what_happened(client: httpx.AsyncClient, member: User) -> None:
    before = await figures(client)
    for password in (PASSWORD, "wrong", "wrong"):
        await client.post("/api/sign-in", json={"email": member.email, "password": password})
    after = await figures(client)

    def more(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert more("groundwork_events_total{sign_in.succeeded}") == 1
    assert more("groundwork_events_total{sign_in.failed}") == 2
    assert more("groundwork_statement_seconds_count") > 3
    assert more("groundwork_statement_seconds_sum") > 0
    assert (
        after["groundwork_statement_seconds_bucket{+Inf}"]
        == (after["groundwork_statement_seconds_count"])
    )


async def test_it_tells_of_pool_database_and_process(client: httpx.AsyncClient) -> None:
    found = await figures(client)
    assert found["groundwork_database_up"] == 1
    assert found["groundwork_database_round_trip_seconds"] < 0.45
    assert found["groundwork_pool_max"] == 20
    assert found["groundwork_pool_waiting"] <= 1  # the task that keeps the pool warm
    assert {"groundwork_pool_connections{idle}", "process_open_fds"} <= found.keys()


async def test_it_answers_without_a_database(client: httpx.AsyncClient) -> None:
    point_at("postgresql://someone@127.0.0.1:1/db")
    assert (await figures(client))["groundwork_database_up"] == 0


async def test_it_is_not_for_strangers(client: httpx.AsyncClient, url: str) -> None:
    assert (await client.get("/metrics", headers={"forwarded": "for=1.2.3.4"})).status_code == 403
    app = create_app(piccolo_conf.SETTINGS, piccolo_conf.DB)
    async with browser(app, "203.0.113.9") as stranger:
        answer = await stranger.get("/metrics")
    assert answer.status_code == 403
    assert answer.json()["error"]["message"] == "Metrics are for callers in METRICS_NETWORKS."


@pytest.mark.parametrize(("proxies", "status"), [("127.0.0.0/8", 403), ("10.0.0.0/8", 200)])
async def test_a_proxy_that_says_nothing_is_no_scraper(url: str, proxies: str, status: int) -> None:
    async with client_with(trusted_proxies=(ip_network(proxies),)) as client:
        assert (await client.get("/metrics")).status_code == status
        report = (await client.get("/api/health?details")).json()
        assert ("pool" in report["database"]) == (status == 200)
