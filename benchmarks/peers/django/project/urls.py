import json
import time

from backoffice.models import User, UserPreference
from django.db import connection, transaction
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


def preferences(request: HttpRequest) -> JsonResponse:
    person = User.objects.filter(
        pk=request.session.get("user_id"), is_approved=True, is_disabled=False
    ).first()
    if person is None:
        return JsonResponse({"error": "Sign in first."}, status=401)
    content = json.loads(request.body)
    with transaction.atomic():
        stored, _ = UserPreference.objects.get_or_create(user=person)
        stored.preferences = content
        stored.save()
    return JsonResponse(content)


urlpatterns = [path("api/health", health), path("api/me/preferences", preferences)]
