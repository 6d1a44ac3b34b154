import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def keep_as_it_is(connection: asyncpg.Connection) -> None:
    """Instead of RESET ALL, which costs a round trip at each release."""


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with asyncpg.create_pool(
        os.environ["DATABASE_URL"], min_size=20, max_size=20, reset=keep_as_it_is
    ) as app.state.pool:
        yield


async def health(request: Request) -> JSONResponse:
    await request.app.state.pool.fetchval("select 1")
    return JSONResponse({"status": "ok", "database": {"connected": True}})


app = Starlette(routes=[Route("/api/health", health)], lifespan=lifespan)
