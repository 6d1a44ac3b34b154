from auditlog.registry import auditlog
from backoffice.models import UserPreference
from project.urls import urlpatterns  # noqa: F401

auditlog.register(UserPreference)
