-- What no route around the application may break. Violations carry a constraint's name, so that
-- the web layer has a sentence for each.

CREATE FUNCTION users_rules_v1() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    person integer := nullif(current_setting('groundwork.actor', true), '')::jsonb ->> 'user_id';
    stays boolean := TG_OP = 'UPDATE' AND NEW.is_superuser AND NEW.is_approved AND NOT NEW.is_disabled;
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.is_approved <> OLD.is_approved THEN
        IF NEW.is_approved AND person = NEW.id THEN
            RAISE EXCEPTION 'nobody approves their own account'
                USING ERRCODE = 'check_violation', CONSTRAINT = 'users_no_self_approval';
        END IF;
        NEW.approved_at := CASE WHEN NEW.is_approved THEN now() END;
        NEW.approved_by := CASE WHEN NEW.is_approved THEN person END;
    END IF;
    IF OLD.is_superuser AND OLD.is_approved AND NOT OLD.is_disabled AND NOT stays THEN
        PERFORM pg_advisory_xact_lock(hashtext('users_last_superuser'));  -- two at once would both pass
        PERFORM FROM users
        WHERE id <> OLD.id AND is_superuser AND is_approved AND NOT is_disabled;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'the last active superuser cannot be removed, disabled or demoted'
                USING ERRCODE = 'check_violation', CONSTRAINT = 'users_last_superuser';
        END IF;
    END IF;
    RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END
$$;
CREATE TRIGGER rules BEFORE UPDATE OR DELETE ON users
    FOR EACH ROW EXECUTE FUNCTION users_rules_v1();

-- Sessions end with the rights they were given under: another password, less trust.
CREATE FUNCTION users_end_sessions_v1() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    DELETE FROM sessions WHERE user_id = NEW.id;
    RETURN NULL;
END
$$;
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION users_end_sessions_v1() SET search_path = %I, pg_temp',
                   current_schema());
END
$$;
-- A hash with newer parameters (groundwork.rehash) is the same password.
CREATE TRIGGER end_sessions AFTER UPDATE ON users FOR EACH ROW
    WHEN ((OLD.password_hash IS DISTINCT FROM NEW.password_hash
           AND coalesce(current_setting('groundwork.rehash', true), '') <> 'on')
          OR (OLD.is_approved AND NOT NEW.is_approved)
          OR (NEW.is_disabled AND NOT OLD.is_disabled)
          OR (OLD.is_admin AND NOT NEW.is_admin)
          OR (OLD.is_superuser AND NOT NEW.is_superuser))
    EXECUTE FUNCTION users_end_sessions_v1();
