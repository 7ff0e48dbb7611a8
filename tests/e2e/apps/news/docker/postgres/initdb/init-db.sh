#!/bin/sh
# The tables, once the database answers.
set -u
until psql "$DATABASE_URL" -qc 'CREATE TABLE IF NOT EXISTS articles (id SERIAL PRIMARY KEY, text TEXT)'; do
    sleep 1
done
