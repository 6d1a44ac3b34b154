-- Back to the rules of before, which are still there.
CREATE OR REPLACE TRIGGER rules BEFORE UPDATE ON sync_history FOR EACH ROW
    WHEN (OLD.status <> NEW.status OR OLD.status::text NOT IN ('pending', 'running'))
    EXECUTE FUNCTION sync_history_rules_v1();
DROP FUNCTION sync_history_rules_v2();
