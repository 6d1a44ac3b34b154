-- What does not go with the tables. The functions of the triggers last.
ALTER TABLE audit_logs DROP CONSTRAINT audit_logs_user_id_fk;
DROP INDEX idx_audit_logs_network, idx_users_words;
DROP VIEW signed_in;
DROP TRIGGER second_factor_changed ON authenticator_secrets;
DROP TRIGGER end_sessions ON users;
DROP TRIGGER rules ON users;
DROP TRIGGER touch_updated_at ON users;
DROP TRIGGER touch_updated_at ON user_preferences;
DROP FUNCTION second_factor_changed_v1(), users_end_sessions_v1(), users_rules_v1(),
    touch_updated_at_v1(), users_words_v1(text, text);
