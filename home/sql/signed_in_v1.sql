-- Who is signed in: the one place that says which sessions are good.
CREATE VIEW signed_in AS
SELECT s.sid, u.id, u.email, u.display_name, u.organization, u.is_admin, u.is_superuser,
       s.last_seen_at IS NULL OR s.last_seen_at < now() - interval '1 minute' AS is_stale
FROM sessions s JOIN users u ON u.id = s.user_id
WHERE s.expire > now() AND (s.max_expire IS NULL OR s.max_expire > now())
  AND u.is_approved AND NOT u.is_disabled;
