const now = (pgm) => ({ type: "timestamptz", notNull: true, default: pgm.func("now()") });
const flag = { type: "boolean", notNull: true, default: false };

export const up = (pgm) => {
  pgm.createTable("users", {
    id: { type: "serial", primaryKey: true },
    email: {
      type: "varchar(255)",
      notNull: true,
      unique: true,
      check: "email = lower(email) AND email ~ '^[^@\\s]+@[^@\\s]+$'",
    },
    password_hash: { type: "varchar(255)", notNull: true, default: "" },
    display_name: { type: "varchar(255)" },
    organization: { type: "varchar(255)" },
    clerk_id: { type: "varchar(255)" },
    is_admin: flag,
    is_superuser: flag,
    is_approved: flag,
    is_disabled: flag,
    approved_at: { type: "timestamptz" },
    approved_by: { type: "integer", references: "users", onDelete: "SET NULL" },
    last_login_at: { type: "timestamptz" },
    last_access_at: { type: "timestamptz" },
    created_at: now(pgm),
    updated_at: now(pgm),
    role: {
      type: "varchar(50)",
      expressionGenerated: "CASE WHEN is_admin THEN 'admin' ELSE 'user' END",
    },
  });
  pgm.createIndex("users", { name: "email", opclass: { name: "varchar_pattern_ops" } });
  pgm.createIndex("users", "clerk_id", { unique: true });
  pgm.createIndex("users", "is_approved");

  pgm.createTable("user_preferences", {
    id: { type: "serial", primaryKey: true },
    user_id: {
      type: "integer",
      notNull: true,
      unique: true,
      references: "users",
      onDelete: "CASCADE",
    },
    preferences: { type: "jsonb", notNull: true, default: "{}" },
    created_at: now(pgm),
    updated_at: now(pgm),
  });

  pgm.createTable("sessions", {
    sid: { type: "varchar", primaryKey: true },
    sess: { type: "jsonb", notNull: true, default: "{}" },
    expire: { type: "timestamptz", notNull: true },
    user_id: { type: "integer", references: "users", onDelete: "CASCADE" },
    max_expire: { type: "timestamptz" },
    created_at: now(pgm),
    last_seen_at: { type: "timestamptz" },
  });
  pgm.createIndex("sessions", "expire");
  pgm.createIndex("sessions", "user_id");

  pgm.addConstraint("audit_logs", "audit_logs_user_id_fk", {
    foreignKeys: { columns: "user_id", references: "users", onDelete: "SET NULL" },
  });
};

export const down = (pgm) => {
  pgm.dropConstraint("audit_logs", "audit_logs_user_id_fk");
  pgm.dropTable("sessions");
  pgm.dropTable("user_preferences");
  pgm.dropTable("users");
};
