DROP TRIGGER touch_updated_at ON user_preferences;
DROP TRIGGER touch_updated_at ON users;
DROP FUNCTION touch_updated_at_v1();
ALTER TABLE users DROP COLUMN role;
DROP INDEX idx_users_email,
           idx_users_clerk_id,
           idx_users_is_approved,
           idx_sessions_expire,
           idx_sessions_user_id;
ALTER TABLE audit_logs DROP CONSTRAINT audit_logs_user_id_fk;
ALTER TABLE sessions RENAME CONSTRAINT sessions_user_id_fk TO sessions_user_id_fkey;
ALTER TABLE user_preferences RENAME CONSTRAINT user_preferences_user_id_fk TO user_preferences_user_id_fkey;
ALTER TABLE users RENAME CONSTRAINT users_approved_by_fk TO users_approved_by_fkey;
