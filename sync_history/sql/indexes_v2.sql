-- For the overview, and for the newest runs of a source.
CREATE INDEX idx_sync_history_completed_at ON sync_history (completed_at);
CREATE INDEX idx_sync_history_source_id ON sync_history (source, id);
CREATE INDEX idx_sync_history_needs_attention ON sync_history (source, id) WHERE needs_attention;
