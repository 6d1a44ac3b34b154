-- What no route around the application may break. Violations carry a constraint's name, so that
-- the web layer has a sentence for each.

-- Whoever may change other people's rights may use the back office, too: the rule of the last
-- superuser below holds for both at once.
ALTER TABLE users ADD CONSTRAINT users_superuser_is_admin CHECK (is_admin OR NOT is_superuser);

-- Rises with everything that ends a person's sessions. Whoever proved a password, or began to set up
-- a second factor, under one version can do nothing with it under the next one.
ALTER TABLE users ADD COLUMN credentials_version integer NOT NULL DEFAULT 0;

CREATE FUNCTION users_rules_v1() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    person integer := nullif(current_setting('groundwork.actor', true), '')::jsonb ->> 'user_id';
    stays boolean := TG_OP = 'UPDATE' AND NEW.is_superuser AND NEW.is_approved AND NOT NEW.is_disabled;
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.is_approved <> OLD.is_approved THEN
        -- Without a person who acts (psql, a script), the given approver and time stay.
        NEW.approved_by := CASE WHEN NEW.is_approved THEN coalesce(person, NEW.approved_by) END;
        NEW.approved_at := CASE WHEN NEW.is_approved THEN coalesce(NEW.approved_at, now()) END;
        IF NEW.approved_by = NEW.id THEN
            RAISE EXCEPTION 'nobody approves their own account'
                USING ERRCODE = 'check_violation', CONSTRAINT = 'users_no_self_approval';
        END IF;
    END IF;
    IF TG_OP = 'UPDATE' AND NEW.is_auditor AND NOT OLD.is_auditor AND NEW.id = person THEN
        RAISE EXCEPTION 'nobody makes themselves an auditor'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'users_no_self_appointment';
    END IF;
    -- A hash with newer parameters (groundwork.rehash) is the same password.
    IF TG_OP = 'UPDATE' AND (
        (OLD.password_hash IS DISTINCT FROM NEW.password_hash
         AND coalesce(current_setting('groundwork.rehash', true), '') <> 'on')
        OR (OLD.email, OLD.is_approved, OLD.is_disabled,
            OLD.is_admin, OLD.is_superuser, OLD.is_auditor)
           IS DISTINCT FROM
           (NEW.email, NEW.is_approved, NEW.is_disabled,
            NEW.is_admin, NEW.is_superuser, NEW.is_auditor)
    ) THEN
        NEW.credentials_version := OLD.credentials_version + 1;
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

-- Sessions end with what they were given for: password, address, approval, rights, second factor.
-- So do tokens of programs, but for a new password that the person chose.
CREATE FUNCTION users_end_sessions_v1() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    person integer := nullif(current_setting('groundwork.actor', true), '')::jsonb ->> 'user_id';
BEGIN
    DELETE FROM sessions WHERE user_id = NEW.id;
    IF (OLD.email, OLD.is_approved, OLD.is_disabled, OLD.is_admin, OLD.is_superuser, OLD.is_auditor)
       IS DISTINCT FROM
       (NEW.email, NEW.is_approved, NEW.is_disabled, NEW.is_admin, NEW.is_superuser, NEW.is_auditor)
       OR OLD.password_hash IS DISTINCT FROM NEW.password_hash AND person IS DISTINCT FROM NEW.id
    THEN
        DELETE FROM api_tokens WHERE user_id = NEW.id;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER end_sessions AFTER UPDATE ON users FOR EACH ROW
    WHEN (OLD.credentials_version <> NEW.credentials_version)
    EXECUTE FUNCTION users_end_sessions_v1();

CREATE FUNCTION second_factor_changed_v1() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    UPDATE users SET credentials_version = credentials_version + 1
    WHERE id = coalesce(NEW.user_id, OLD.user_id);
    RETURN NULL;
END
$$;
CREATE TRIGGER second_factor_changed AFTER INSERT OR DELETE OR UPDATE OF secret
    ON authenticator_secrets FOR EACH ROW EXECUTE FUNCTION second_factor_changed_v1();

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['users_end_sessions_v1', 'second_factor_changed_v1'] LOOP
        EXECUTE format('ALTER FUNCTION %I() SET search_path = %I, pg_temp', name, current_schema());
    END LOOP;
END
$$;
