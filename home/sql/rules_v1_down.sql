DROP INDEX idx_audit_logs_sign_in_failed;
DROP TRIGGER end_sessions ON users;
DROP TRIGGER rules ON users;
DROP FUNCTION users_end_sessions_v1(), users_rules_v1();
