// The API of a quiz: questions and scores in PostgreSQL.
const express = require("express");
const { Pool } = require("pg");
const { DB_HOST: host, DB_USER: user, DB_PASSWORD: password, DB_NAME: database } = process.env;
const pool = new Pool({ host, user, password, database, connectionTimeoutMillis: 5000 });
pool.on("error", (error) => console.log("idle client:", error.message));
const answer = (response, query) =>
  query.then((found) => response.json(found.rows), (error) => response.status(503).send(error.message));
express()
  .use(express.json())
  .get("/health", (request, response) =>
    pool
      .query("CREATE TABLE IF NOT EXISTS scores (id SERIAL PRIMARY KEY, name TEXT, points INTEGER)")
      .then(() => response.send("ok"), (error) => response.status(503).send(error.message)),
  )
  .get("/api/scores", (request, response) =>
    answer(response, pool.query("SELECT COUNT(*)::int AS count, SUM(points)::int AS points FROM scores")))
  .post("/api/scores", (request, response) =>
    answer(response, pool.query("INSERT INTO scores (name, points) VALUES ($1, $2) RETURNING id",
      [request.body.name, request.body.points])))
  .listen(3000);
