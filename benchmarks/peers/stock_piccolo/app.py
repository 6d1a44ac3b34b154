import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from people.tables import Person
from piccolo_conf import DB
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    await DB.start_connection_pool(min_size=20, max_size=20)
    yield
    await DB.close_connection_pool()


async def health(request: Request) -> JSONResponse:
    started = time.perf_counter()
    await Person.raw("select 1")
    latency_ms = round((time.perf_counter() - started) * 1000, 2)
    database = {"connected": True, "latencyMs": latency_ms}
    now = datetime.now(UTC).isoformat()
    return JSONResponse({"status": "ok", "timestamp": now, "database": database})


app = Starlette(routes=[Route("/api/health", health)], lifespan=lifespan)
