"""An app of somebody else's in the back office."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from piccolo.columns import (
    JSON,
    UUID,
    Array,
    Integer,
    Numeric,
    Secret,
    Serial,
    Timestamptz,
    Varchar,
)
from piccolo.table import Table

import piccolo_conf
from audit.apps import App, AppRegistry
from home import composition
from tests.conftest import browser, share_back_office


class Tool(Table, tablename="tools"):
    """Something that people borrow, with columns of many types."""

    id: Serial
    name = Varchar(length=20)
    pieces = Integer(default=1)
    price = Numeric(digits=(6, 2), null=True, default=None)
    bought_at = Timestamptz(null=True, default=None)
    serial_number = UUID(null=True, default=None)
    sizes = Array(base_column=Integer(), null=True, default=None)
    details = JSON(null=True, default=None)
    pin = Secret(null=True, default=None)


_alive: list[App] = []


def registry_with(**apps: App) -> AppRegistry:
    """Return the application's registry with more apps."""
    registry = AppRegistry(piccolo_conf.APP_REGISTRY.apps)
    registry.brought |= apps
    return registry


@asynccontextmanager
async def client_of(**apps: App) -> AsyncIterator[httpx.AsyncClient]:
    """An outsider at the application with more apps, on the database of `url`."""
    app = composition.create_app(piccolo_conf.SETTINGS, piccolo_conf.DB, registry_with(**apps))
    share_back_office(app, tuple(sorted((name, id(each)) for name, each in apps.items())))
    _alive.extend(apps.values())  # so that no other app gets the same id
    async with app.router.lifespan_context(app), browser(app) as client:
        yield client
