// What was mined, from Redis.
const express = require("express");
const { createClient } = require("redis");
const redis = createClient({ url: "redis://redis:6379" });
redis.on("error", (error) => console.log("redis:", error.message));
redis.connect();
express()
  .get("/json", async (request, response) => {
    try {
      const [coins, hashes, errors] = [redis.hLen("wallet"), redis.get("hashes"), redis.get("errors")];
      response.json({ coins: await coins, hashes: Number(await hashes), errors: Number(await errors) });
    } catch (error) {
      response.status(503).send(error.message);
    }
  })
  .listen(80);
