// The result page: counts the votes in PostgreSQL.
const express = require("express");
const { Pool } = require("pg");
const pool = new Pool({ host: "db", user: "postgres", database: "postgres", connectionTimeoutMillis: 5000 });
pool.on("error", (error) => console.log("idle client:", error.message));
express()
  .get("/", (request, response) =>
    pool.query("SELECT vote, COUNT(id) AS count FROM votes GROUP BY vote").then(
      (found) => response.json(Object.fromEntries(found.rows.map((row) => [row.vote, Number(row.count)]))),
      (error) => response.status(503).send(error.message),
    ),
  )
  .listen(80);
