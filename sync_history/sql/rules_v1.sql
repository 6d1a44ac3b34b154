-- The order of the states, whoever writes: pending, running, one of four ends. What is over stays as
-- it is, so that a process that was taken for dead changes nothing when it wakes up. Times are the
-- database's.
CREATE FUNCTION sync_history_rules_v1() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    -- The people may be deleted or erased, and somebody may have looked into it.
    free text[] := ARRAY['triggered_by', 'cancel_requested_by', 'needs_attention', 'attention_reason'];
BEGIN
    IF OLD.status NOT IN ('pending', 'running') THEN
        IF current_setting('groundwork.audit_removal', true) = 'on' AND pg_has_role(
            (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE'
        ) THEN
            free := free || ARRAY['error_message', 'error_details'];
        END IF;
        IF to_jsonb(NEW) - free <> to_jsonb(OLD) - free THEN
            RAISE EXCEPTION 'a run that is over does not change'
                USING ERRCODE = 'check_violation', CONSTRAINT = 'sync_history_over';
        END IF;
    ELSIF OLD.status = 'running' AND NEW.status = 'pending'
       OR OLD.status = 'pending' AND NEW.status IN ('succeeded', 'partial') THEN
        RAISE EXCEPTION 'a run cannot go from % to %', OLD.status, NEW.status
            USING ERRCODE = 'check_violation', CONSTRAINT = 'sync_history_transition';
    ELSIF NEW.status = 'running' THEN
        NEW.started_at := clock_timestamp();
        NEW.heartbeat_at := NEW.started_at;
    ELSE
        NEW.completed_at := clock_timestamp();
        NEW.duration_ms := round(extract(epoch FROM NEW.completed_at - NEW.started_at) * 1000);
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER rules BEFORE UPDATE ON sync_history FOR EACH ROW
    WHEN (OLD.status <> NEW.status OR OLD.status::text NOT IN ('pending', 'running'))
    EXECUTE FUNCTION sync_history_rules_v1();

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
