import connectPgSimple from "connect-pg-simple";
import express from "express";
import session from "express-session";
import pg from "pg";

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 20 });
pool.on("error", (error) => console.error(error.message));

const app = express();

app.get("/api/health", async (request, response) => {
  const started = performance.now();
  await pool.query("select 1");
  response.json({
    status: "ok",
    timestamp: new Date().toISOString(),
    database: { connected: true, latencyMs: performance.now() - started },
  });
});

const PostgresStore = connectPgSimple(session);
app.use(
  session({
    store: new PostgresStore({ pool, createTableIfMissing: true }),
    secret: process.env.SESSION_SECRET ?? "only for this benchmark",
    resave: false,
    saveUninitialized: false,
  }),
);

app.use(async (request, response, next) => {
  const found = await pool.query(
    "select id, email, display_name, organization, is_admin, is_superuser from users" +
      " where id = $1 and is_approved and not is_disabled",
    [request.session.userId],
  );
  if (found.rowCount === 0) return response.status(401).json({ error: "Sign in first." });
  request.user = found.rows[0];
  next();
});

app.get("/api/me", (request, response) => response.json(request.user));

app.put("/api/me/preferences", express.json(), async (request, response) => {
  const client = await pool.connect();
  try {
    await client.query("begin");
    const old = await client.query(
      "select preferences from user_preferences where user_id = $1 for update",
      [request.user.id],
    );
    await client.query(
      "insert into user_preferences (user_id, preferences) values ($1, $2)" +
        " on conflict (user_id) do update set preferences = excluded.preferences",
      [request.user.id, request.body],
    );
    await client.query(
      "insert into audit_logs (user_id, actor, action, resource, resource_id, details, ip_address)" +
        " values ($1, $2, 'user_preferences.update', 'user_preferences', $3, $4, $5)",
      [
        request.user.id,
        request.user.email,
        request.user.id,
        { before: old.rows[0]?.preferences, after: request.body },
        request.ip,
      ],
    );
    await client.query("commit");
    response.json(request.body);
  } catch (error) {
    await client.query("rollback");
    throw error;
  } finally {
    client.release();
  }
});

app.listen(Number(process.env.PORT), "127.0.0.1");
