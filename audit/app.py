"""What the audit trail brings to the application."""

from audit.apps import App
from audit.settings import AuditSettings

APP = App(
    settings=AuditSettings,
    sentences={"audit_logs_details_size": "This is too large to be recorded on the audit trail."},
    tables="audit.admin:tables",
    forms="audit.forms:forms",
    jobs="audit.keeping:jobs",
    lifespan="audit.verifying:lifespan",
)
