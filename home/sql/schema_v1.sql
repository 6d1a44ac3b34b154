ALTER TABLE users RENAME CONSTRAINT users_approved_by_fkey TO users_approved_by_fk;
ALTER TABLE user_preferences RENAME CONSTRAINT user_preferences_user_id_fkey TO user_preferences_user_id_fk;
ALTER TABLE sessions RENAME CONSTRAINT sessions_user_id_fkey TO sessions_user_id_fk;
ALTER TABLE one_time_links RENAME CONSTRAINT one_time_links_user_id_fkey TO one_time_links_user_id_fk;
ALTER TABLE identities RENAME CONSTRAINT identities_user_id_fkey TO identities_user_id_fk;
ALTER TABLE api_tokens RENAME CONSTRAINT api_tokens_user_id_fkey TO api_tokens_user_id_fk;
ALTER TABLE authenticator_secrets
    RENAME CONSTRAINT authenticator_secrets_user_id_fkey TO authenticator_secrets_user_id_fk;

-- audit knows nothing of accounts, so the link from the trail to its people is made here.
ALTER TABLE audit_logs ADD CONSTRAINT audit_logs_user_id_fk
    FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE SET NULL;

-- Search by the beginning of an address; equality is served by users_email_unique.
CREATE INDEX idx_users_email ON users (email varchar_pattern_ops);
-- One account for one identity at the external provider.
CREATE UNIQUE INDEX idx_users_clerk_id ON users (clerk_id);
-- For «who awaits approval».
CREATE INDEX idx_users_is_approved ON users (is_approved);
-- For the purge, and for ending a person's sessions.
CREATE INDEX idx_sessions_expire ON sessions (expire);
CREATE INDEX idx_sessions_user_id ON sessions (user_id);
-- For throttling by address: `network` is an IPv4 address or the first half of an IPv6 one.
CREATE INDEX idx_audit_logs_network ON audit_logs ((details ->> 'network'), created_at)
    WHERE action::text IN ('sign_in.failed', 'sign_in.throttled', 'register.requested', 'password.requested');

-- For programs that expect a role; follows is_admin by itself.
ALTER TABLE users ADD COLUMN role varchar(50)
    GENERATED ALWAYS AS (CASE WHEN is_admin THEN 'admin' ELSE 'user' END) STORED;

CREATE FUNCTION touch_updated_at_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END
$$;
CREATE TRIGGER touch_updated_at BEFORE UPDATE ON users
    FOR EACH ROW EXECUTE FUNCTION touch_updated_at_v1();
CREATE TRIGGER touch_updated_at BEFORE UPDATE ON user_preferences
    FOR EACH ROW EXECUTE FUNCTION touch_updated_at_v1();

-- Who is signed in: the one place that says which sessions are good. Those of a clock that was ahead
-- and has been set back would be good for as long as it was ahead.
CREATE VIEW signed_in AS
SELECT s.sid, u.id, u.email, u.display_name, u.organization, u.is_admin, u.is_superuser,
       u.is_auditor,
       s.last_seen_at IS NULL OR s.last_seen_at < now() - interval '1 minute' AS needs_touch
FROM sessions s JOIN users u ON u.id = s.user_id
WHERE s.expire > now() AND s.created_at < now() + interval '1 minute'
  AND (s.max_expire IS NULL OR s.max_expire > now() AND s.max_expire < now() + interval '12 hours 1 minute')
  AND u.is_approved AND NOT u.is_disabled;

-- For the lists of people, newest first: who waits and who is active, who is kept out, who administers.
CREATE INDEX idx_users_state ON users (is_approved, is_disabled, id);
CREATE INDEX idx_users_disabled ON users (id) WHERE is_disabled;
CREATE INDEX idx_users_is_admin ON users (id) WHERE is_admin;

-- Search by the beginnings of words of a name or an address: «hop» finds Grace Hopper, and
-- hopper@example.com, too. What home.accounts.people.words_of takes for spaces, in the same order.
CREATE FUNCTION users_words_v1(name text, address text) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
SELECT to_tsvector('simple', translate(
    coalesce(name, '') || ' ' || address,
    '@._-+''"()<>[]{}|&!:*/\,;=~#%^$?`', '                                '))
$$;
CREATE INDEX idx_users_words ON users USING gin (users_words_v1(display_name, email));

-- For the jobs that deliver messages.
CREATE INDEX idx_outbox_due ON outbox (channel, next_at, id) WHERE sent_at IS NULL AND dead_at IS NULL;
