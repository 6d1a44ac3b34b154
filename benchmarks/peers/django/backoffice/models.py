from django.db import models
from django.db.models import Case, CheckConstraint, Index, Q, UniqueConstraint, Value, When
from django.db.models.functions import Lower, Now


class AuditLog(models.Model):
    id = models.BigAutoField(primary_key=True)
    user = models.ForeignKey("User", models.SET_NULL, null=True)
    actor = models.TextField(null=True)
    action = models.CharField(max_length=100, db_index=True)
    resource = models.CharField(max_length=100, null=True)
    resource_id = models.CharField(max_length=255, null=True)
    details = models.JSONField(null=True)
    ip_address = models.CharField(max_length=45, null=True)
    request_id = models.CharField(max_length=100, null=True)
    is_admin_action = models.BooleanField(db_default=False, db_index=True)
    created_at = models.DateTimeField(db_default=Now(), db_index=True)

    class Meta:
        db_table = "audit_logs"
        indexes = [
            Index(fields=["user", "created_at"], name="audit_logs_user_created"),
            Index(fields=["resource", "resource_id"], name="audit_logs_resource"),
        ]


class AuditSeal(models.Model):
    id = models.BigAutoField(primary_key=True)
    first_id = models.BigIntegerField()
    last_id = models.BigIntegerField()
    row_count = models.BigIntegerField()
    algorithm = models.CharField(max_length=20)
    previous_digest = models.CharField(max_length=64, null=True)
    digest = models.CharField(max_length=64)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "audit_seals"


class User(models.Model):
    email = models.CharField(max_length=255)
    password_hash = models.CharField(max_length=255, db_default="")
    display_name = models.CharField(max_length=255, null=True)
    organization = models.CharField(max_length=255, null=True)
    clerk_id = models.CharField(max_length=255, null=True)
    is_admin = models.BooleanField(db_default=False)
    is_superuser = models.BooleanField(db_default=False)
    is_approved = models.BooleanField(db_default=False, db_index=True)
    is_disabled = models.BooleanField(db_default=False)
    approved_at = models.DateTimeField(null=True)
    approved_by = models.ForeignKey(
        "self", models.SET_NULL, null=True, db_column="approved_by", db_index=False
    )
    last_login_at = models.DateTimeField(null=True)
    last_access_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(db_default=Now())
    updated_at = models.DateTimeField(db_default=Now())
    role = models.GeneratedField(
        expression=Case(When(is_admin=True, then=Value("admin")), default=Value("user")),
        output_field=models.CharField(max_length=50),
        db_persist=True,
    )

    class Meta:
        db_table = "users"
        constraints = [
            UniqueConstraint(fields=["email"], name="users_email_unique"),
            UniqueConstraint(fields=["clerk_id"], name="users_clerk_id_unique"),
            CheckConstraint(
                condition=Q(email=Lower("email")) & Q(email__regex=r"^[^@\s]+@[^@\s]+$"),
                name="users_email_check",
            ),
        ]
        indexes = [
            Index(fields=["email"], name="users_email_like", opclasses=["varchar_pattern_ops"])
        ]


class UserPreference(models.Model):
    user = models.OneToOneField(User, models.CASCADE)
    preferences = models.JSONField(db_default=Value({}, models.JSONField()))
    created_at = models.DateTimeField(db_default=Now())
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "user_preferences"


class Session(models.Model):
    sid = models.CharField(primary_key=True)
    sess = models.JSONField(db_default=Value({}, models.JSONField()))
    expire = models.DateTimeField(db_index=True)
    user = models.ForeignKey(User, models.CASCADE, null=True)
    max_expire = models.DateTimeField(null=True)
    created_at = models.DateTimeField(db_default=Now())
    last_seen_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "sessions"


class SyncRun(models.Model):
    class Status(models.TextChoices):
        PENDING = "pending"
        RUNNING = "running"
        SUCCEEDED = "succeeded"
        PARTIAL = "partial"
        FAILED = "failed"
        CANCELLED = "cancelled"

    class Trigger(models.TextChoices):
        AUTOMATIC = "automatic"
        MANUAL = "manual"

    source = models.CharField(max_length=100)
    status = models.CharField(
        max_length=50, choices=Status, db_default=Status.PENDING, db_index=True
    )
    trigger_type = models.CharField(max_length=50, choices=Trigger, db_default=Trigger.AUTOMATIC)
    triggered_by = models.ForeignKey(
        User, models.SET_NULL, null=True, db_column="triggered_by", db_index=False
    )
    started_at = models.DateTimeField(null=True, db_index=True)
    completed_at = models.DateTimeField(null=True)
    duration_ms = models.BigIntegerField(null=True)
    items_total = models.IntegerField(null=True)
    items_synced = models.IntegerField(db_default=0)
    items_failed = models.IntegerField(db_default=0)
    error_message = models.TextField(null=True)
    error_details = models.JSONField(null=True)
    heartbeat_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "sync_history"
        constraints = [
            CheckConstraint(
                condition=Q(
                    status__in=[
                        "pending", "running", "succeeded", "partial", "failed", "cancelled",
                    ]
                ),
                name="sync_history_status_check",
            ),
            CheckConstraint(
                condition=Q(trigger_type__in=["automatic", "manual"]),
                name="sync_history_trigger_type_check",
            ),
            UniqueConstraint(
                fields=["source"], condition=Q(status="running"), name="sync_history_one_running"
            ),
        ]
