"""The columns of the trail, as everything that shows rows selects them."""

COLUMNS = (
    "id",
    "created_at",
    "actor",
    "user_id",
    "action",
    "resource",
    "resource_id",
    "details",
    "ip_address",
    "request_id",
    "is_admin_action",
)
# ISO 8601 whatever the session's settings are, and however far away the date is.
CREATED_AT = "(to_json(created_at AT TIME ZONE 'UTC') #>> '{}') || 'Z' AS created_at"
SELECTED = tuple(CREATED_AT if column == "created_at" else column for column in COLUMNS)
