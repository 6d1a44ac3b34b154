import time

from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.utils import timezone


def health(request: HttpRequest) -> JsonResponse:
    started = time.perf_counter()
    with connection.cursor() as cursor:
        cursor.execute("select 1")
    latency_ms = (time.perf_counter() - started) * 1000
    database = {"connected": True, "latencyMs": latency_ms}
    return JsonResponse({"status": "ok", "timestamp": timezone.now(), "database": database})


urlpatterns = [path("api/health", health)]
