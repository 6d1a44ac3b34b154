DROP INDEX idx_sync_history_completed_at, idx_sync_history_source_id,
    idx_sync_history_needs_attention;
