ALTER TABLE sync_history RENAME CONSTRAINT sync_history_triggered_by_fkey TO sync_history_triggered_by_fk;

-- For the filters of the back office, and for finding runs whose process died.
CREATE INDEX idx_sync_history_status ON sync_history (status);
CREATE INDEX idx_sync_history_started_at ON sync_history (started_at);
-- One running run a source, across all processes: PostgreSQL decides.
CREATE UNIQUE INDEX idx_sync_history_one_running ON sync_history (source) WHERE status = 'running';
