-- For «what did this person do», newest first; the first also serves the foreign key of home.
CREATE INDEX idx_audit_logs_user_id ON audit_logs (user_id);
CREATE INDEX idx_audit_logs_user_id_created_at ON audit_logs (user_id, created_at);
-- For the filters of the back office and for throttling.
CREATE INDEX idx_audit_logs_action ON audit_logs (action);
CREATE INDEX idx_audit_logs_created_at ON audit_logs (created_at);
CREATE INDEX idx_audit_logs_is_admin_action ON audit_logs (is_admin_action);
-- For the history of one record.
CREATE INDEX idx_audit_logs_resource_resource_id ON audit_logs (resource, resource_id);

-- The same rows, for programs that expect them under these names.
CREATE VIEW audit_log AS
SELECT id,
       action,
       resource AS entity_type,
       resource_id AS entity_id,
       user_id,
       created_at AS "timestamp",
       details
FROM audit_logs;
