export const up = (pgm) => {
  pgm.createTable("sync_history", {
    id: { type: "serial", primaryKey: true },
    source: { type: "varchar(100)", notNull: true },
    status: {
      type: "varchar(50)",
      notNull: true,
      default: "pending",
      check: "status IN ('pending', 'running', 'succeeded', 'partial', 'failed', 'cancelled')",
    },
    trigger_type: {
      type: "varchar(50)",
      notNull: true,
      default: "automatic",
      check: "trigger_type IN ('automatic', 'manual')",
    },
    triggered_by: { type: "integer", references: "users", onDelete: "SET NULL" },
    started_at: { type: "timestamptz" },
    completed_at: { type: "timestamptz" },
    duration_ms: { type: "bigint" },
    items_total: { type: "integer" },
    items_synced: { type: "integer", notNull: true, default: 0 },
    items_failed: { type: "integer", notNull: true, default: 0 },
    error_message: { type: "text" },
    error_details: { type: "jsonb" },
    heartbeat_at: { type: "timestamptz" },
    created_at: { type: "timestamptz", notNull: true, default: pgm.func("now()") },
  });
  pgm.createIndex("sync_history", "status");
  pgm.createIndex("sync_history", "started_at");
  pgm.createIndex("sync_history", "source", { unique: true, where: "status = 'running'" });
};

export const down = (pgm) => {
  pgm.dropTable("sync_history");
};
