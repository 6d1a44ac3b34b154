-- As sync_history_rules_v1, and a run that is over may be told not to be tried again.
CREATE FUNCTION sync_history_rules_v2() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    -- The people may be deleted or erased, and somebody may have looked into it.
    free text[] := ARRAY['triggered_by', 'cancel_requested_by', 'needs_attention', 'attention_reason'];
BEGIN
    IF OLD.status NOT IN ('pending', 'running') THEN
        IF NEW.retry_at IS NULL THEN
            free := free || ARRAY['retry_at'];
        END IF;
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
CREATE OR REPLACE TRIGGER rules BEFORE UPDATE ON sync_history FOR EACH ROW
    WHEN (OLD.status <> NEW.status OR OLD.status::text NOT IN ('pending', 'running'))
    EXECUTE FUNCTION sync_history_rules_v2();

-- For the lines of a run, in their order. The table is new: nobody waits.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX idx_sync_log_lines_run ON sync_log_lines (run, id);
-- squawk-ignore renaming-object
ALTER TABLE sync_log_lines RENAME CONSTRAINT sync_log_lines_run_fkey TO sync_log_lines_run_fk;
