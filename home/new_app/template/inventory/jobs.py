"""What the inventory does beside the requests."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import structlog

from audit.context import Actor, acting_as
from audit.jobs import Job
from home.services import Services
from inventory.settings import InventorySettings

log = structlog.get_logger("inventory")

OVERDUE = """
    SELECT count(*) FROM inventory_items
    WHERE borrowed_by IS NOT NULL AND created_at < now() - make_interval(days => $1)
"""


def jobs(services: Services) -> list[Job]:
    """Return the jobs; the overview and /metrics say when each last succeeded."""
    days = services.settings_of(InventorySettings).inventory_loan_days

    async def count_overdue() -> None:
        with acting_as(Actor("system:inventory")):
            overdue = await services.db.fetchval(OVERDUE, days)
            if overdue:
                log.info("items_overdue", items=overdue)

    return [Job("count overdue inventory", count_overdue, every=3600, at_once=True)]


def lifespan(services: Services) -> list[AbstractAsyncContextManager[None]]:
    """Return what is opened before the first request and closed after the last one."""
    return [opened()]


@asynccontextmanager
async def opened() -> AsyncIterator[None]:
    """Hold what lives as long as the application, such as an HTTP client."""
    log.info("inventory_opened")
    yield
    log.info("inventory_closed")
