ALTER TABLE sync_history RENAME CONSTRAINT sync_history_triggered_by_fkey TO sync_history_triggered_by_fk;
ALTER TABLE sync_history RENAME CONSTRAINT sync_history_cancel_requested_by_fkey
    TO sync_history_cancel_requested_by_fk;
ALTER TABLE directory_people RENAME CONSTRAINT directory_people_user_id_fkey TO directory_people_user_id_fk;

-- For the filters of the pages, whose lists begin with the newest, and for finding runs whose process
-- died.
CREATE INDEX idx_sync_history_status_id ON sync_history (status, id);
CREATE INDEX idx_sync_history_source_status_id ON sync_history (source, status, id);
CREATE INDEX idx_sync_history_dry_runs ON sync_history (source, id) WHERE dry_run;
CREATE INDEX idx_sync_history_started_at ON sync_history (started_at);
-- One running run a source, across all processes: PostgreSQL decides.
CREATE UNIQUE INDEX idx_sync_history_one_running ON sync_history (source) WHERE status = 'running';
-- The last good runs, which settle what was wrong before.
CREATE INDEX idx_sync_history_good ON sync_history (source, id)
    WHERE status = 'succeeded' AND NOT needs_attention AND NOT dry_run;
-- For the overview, and for the newest runs of a source.
CREATE INDEX idx_sync_history_completed_at ON sync_history (completed_at);
CREATE INDEX idx_sync_history_source_id ON sync_history (source, id);
CREATE INDEX idx_sync_history_needs_attention ON sync_history (source, id) WHERE needs_attention;

-- For the list of who left the directory.
CREATE INDEX idx_directory_people_left ON directory_people (user_id) WHERE left_at IS NOT NULL;

-- Plans of a run are worth nothing after a crash, and need no log to survive one.
ALTER TABLE directory_changes SET UNLOGGED;
