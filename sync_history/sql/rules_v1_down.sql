DROP TRIGGER rules ON sync_history;
DROP FUNCTION sync_history_rules_v1();
ALTER TABLE sync_history RENAME CONSTRAINT sync_history_cancel_requested_by_fk
    TO sync_history_cancel_requested_by_fkey;
