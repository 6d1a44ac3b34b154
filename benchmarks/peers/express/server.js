import express from "express";
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

app.listen(Number(process.env.PORT), "127.0.0.1");
