const now = (pgm) => ({ type: "timestamptz", notNull: true, default: pgm.func("now()") });

export const up = (pgm) => {
  pgm.createTable("audit_logs", {
    id: { type: "bigserial", primaryKey: true },
    user_id: { type: "integer" },
    actor: { type: "text" },
    action: { type: "varchar(100)", notNull: true },
    resource: { type: "varchar(100)" },
    resource_id: { type: "varchar(255)" },
    details: { type: "jsonb" },
    ip_address: { type: "varchar(45)" },
    request_id: { type: "varchar(100)" },
    is_admin_action: { type: "boolean", notNull: true, default: false },
    created_at: now(pgm),
  });
  pgm.createIndex("audit_logs", "user_id");
  pgm.createIndex("audit_logs", ["user_id", "created_at"]);
  pgm.createIndex("audit_logs", "action");
  pgm.createIndex("audit_logs", "created_at");
  pgm.createIndex("audit_logs", "is_admin_action");
  pgm.createIndex("audit_logs", ["resource", "resource_id"]);

  pgm.createTable("audit_seals", {
    id: { type: "bigserial", primaryKey: true },
    first_id: { type: "bigint", notNull: true },
    last_id: { type: "bigint", notNull: true },
    row_count: { type: "bigint", notNull: true },
    algorithm: { type: "varchar(20)", notNull: true },
    previous_digest: { type: "varchar(64)" },
    digest: { type: "varchar(64)", notNull: true },
    created_at: now(pgm),
  });
};

export const down = (pgm) => {
  pgm.dropTable("audit_seals");
  pgm.dropTable("audit_logs");
};
