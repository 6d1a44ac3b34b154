-- The page of the trail reads the newest first, by (created_at, id): each of its filters that is
-- selective finds its rows in this order. The first one serves the foreign key of home, too. Each
-- costs every write, so rows that nobody looks for by a column are left out.
CREATE INDEX idx_audit_logs_user_id_created_at ON audit_logs (user_id, created_at, id)
    WHERE user_id IS NOT NULL;
CREATE INDEX idx_audit_logs_actor ON audit_logs (actor, created_at, id);
CREATE INDEX idx_audit_logs_action ON audit_logs (action, created_at, id);
CREATE INDEX idx_audit_logs_resource ON audit_logs (resource, created_at, id);
CREATE INDEX idx_audit_logs_ip_address ON audit_logs (ip_address, created_at, id)
    WHERE ip_address IS NOT NULL;
CREATE INDEX idx_audit_logs_request_id ON audit_logs (request_id, created_at, id)
    WHERE request_id IS NOT NULL;
CREATE INDEX idx_audit_logs_created_at ON audit_logs (created_at, id);
-- For the filter of the back office; what is no such action is most of all, and needs none.
CREATE INDEX idx_audit_logs_is_admin_action ON audit_logs (created_at, id) WHERE is_admin_action;
-- For the history of one record.
CREATE INDEX idx_audit_logs_resource_resource_id
    ON audit_logs (resource, resource_id, created_at, id);
-- For «which seal covers this row».
CREATE INDEX idx_audit_seals_last_id ON audit_seals (last_id);

-- As text a row has to be less than PostgreSQL's 1 GB: else nobody could seal or export it, or any
-- row after it. Control characters take six times as much there.
ALTER TABLE audit_logs ADD CONSTRAINT audit_logs_details_size
    CHECK (pg_column_size(details) < 100000000);

-- Sixteen bytes, 122 bits of them random: a UUID is what PostgreSQL makes without an extension.
ALTER TABLE audit_logs ALTER salt SET DEFAULT uuid_send(gen_random_uuid());
-- For «which erasures are among these rows», and for the archive of a time.
CREATE INDEX idx_audit_removals_last_id ON audit_removals (last_id);
CREATE INDEX idx_audit_archives_last_id ON audit_archives (last_id);

-- The same rows, for programs that expect them under these names; with the rights of who asks.
CREATE VIEW audit_log WITH (security_invoker = true) AS
SELECT id,
       action,
       resource AS entity_type,
       resource_id AS entity_id,
       user_id,
       created_at AS "timestamp",
       details
FROM audit_logs;
