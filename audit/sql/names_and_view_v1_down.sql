DROP VIEW audit_log;
DROP INDEX idx_audit_logs_user_id,
           idx_audit_logs_user_id_created_at,
           idx_audit_logs_action,
           idx_audit_logs_created_at,
           idx_audit_logs_is_admin_action,
           idx_audit_logs_resource_resource_id;
