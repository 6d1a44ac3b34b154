ALTER TABLE directory_people RENAME CONSTRAINT directory_people_user_id_fkey TO directory_people_user_id_fk;

-- Plans of a run are worth nothing after a crash, and need no log to survive one.
ALTER TABLE directory_changes SET UNLOGGED;

-- Once anybody enables an account again, disabling it was no longer the directory's doing: should a
-- person disable it later, the directory will not enable it.
CREATE FUNCTION directory_enabled_v1() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    UPDATE directory_people SET disabled = false WHERE user_id = NEW.id AND disabled;
    RETURN NULL;
END
$$;
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION directory_enabled_v1() SET search_path = %I, pg_temp',
                   current_schema());
END
$$;
CREATE TRIGGER directory_enabled AFTER UPDATE ON users FOR EACH ROW
    WHEN (OLD.is_disabled AND NOT NEW.is_disabled)
    EXECUTE FUNCTION directory_enabled_v1();
