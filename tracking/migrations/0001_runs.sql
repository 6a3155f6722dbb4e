-- The tables hold integers where names repeat a million times; the views at
-- the end (settings, metrics, latest, tags, events) give the names back and are
-- what a person queries. Times are RFC 3339 in UTC.

CREATE TABLE runs (
  number              INTEGER PRIMARY KEY,
  id                  TEXT NOT NULL UNIQUE,
  name                TEXT NOT NULL,
  note                TEXT NOT NULL DEFAULT '',
  status              TEXT NOT NULL CHECK (status IN ('running', 'finished', 'interrupted', 'failed', 'crashed')),
  reason              TEXT NOT NULL DEFAULT '',
  started             TEXT NOT NULL,
  ended               TEXT,
  heartbeat           TEXT NOT NULL,            -- the last sign of life
  seconds             REAL NOT NULL DEFAULT 0,  -- spent training, pauses between resumes not counted
  steps               INTEGER NOT NULL DEFAULT 0,
  tokens              INTEGER NOT NULL DEFAULT 0,
  host                TEXT NOT NULL DEFAULT '',
  boot                TEXT NOT NULL DEFAULT '', -- the kernel's boot id: process ids mean nothing beyond it
  pid_namespace       TEXT NOT NULL DEFAULT '',
  pid                 INTEGER NOT NULL DEFAULT 0,
  process_start       INTEGER NOT NULL DEFAULT 0, -- clock ticks after boot: process ids are reused
  cpu                 TEXT NOT NULL DEFAULT '',
  device              TEXT NOT NULL DEFAULT '',
  threads             INTEGER NOT NULL DEFAULT 0,
  dataset             TEXT NOT NULL DEFAULT '',
  dataset_path        TEXT NOT NULL DEFAULT '',
  dataset_fingerprint TEXT NOT NULL DEFAULT '',
  dataset_facts       TEXT NOT NULL DEFAULT '{}', -- JSON object
  parent              TEXT NOT NULL DEFAULT '',   -- id of the run this one was forked from
  git_commit          TEXT NOT NULL DEFAULT '',
  git_dirty           INTEGER NOT NULL DEFAULT 0,
  command             TEXT NOT NULL DEFAULT '[]', -- JSON array
  versions            TEXT NOT NULL DEFAULT '{}', -- JSON object
  git_diff            TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE INDEX runs_by_start ON runs (started);
CREATE INDEX runs_by_name ON runs (name, started);
CREATE INDEX runs_alive ON runs (number) WHERE status = 'running';

CREATE TABLE run_settings (
  run   INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
  key   TEXT NOT NULL,  -- dotted: optimizer.kind
  value ANY,
  type  TEXT NOT NULL CHECK (type IN ('null', 'boolean', 'integer', 'real', 'text', 'json')),
  PRIMARY KEY (run, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE metric_names (
  metric  INTEGER PRIMARY KEY,
  name    TEXT NOT NULL UNIQUE,
  highest INTEGER NOT NULL  -- 1 where the best value is the highest
) STRICT;

CREATE TABLE run_points (
  run     INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
  metric  INTEGER NOT NULL REFERENCES metric_names,
  step    INTEGER NOT NULL,
  tokens  INTEGER NOT NULL,
  at      INTEGER NOT NULL,  -- Unix milliseconds
  elapsed INTEGER NOT NULL,  -- milliseconds of training until then
  value   REAL,              -- NULL is NaN
  PRIMARY KEY (run, metric, step)
) STRICT, WITHOUT ROWID;

-- The last and the best value of each metric, kept by the writer, so that a
-- list of runs never reads their points.
CREATE TABLE run_summaries (
  run       INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
  metric    INTEGER NOT NULL REFERENCES metric_names,
  step      INTEGER NOT NULL,
  value     REAL,
  best_step INTEGER,
  best      REAL,
  PRIMARY KEY (run, metric)
) STRICT, WITHOUT ROWID;

CREATE TABLE run_tags (
  run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
  tag TEXT NOT NULL,
  PRIMARY KEY (run, tag)
) STRICT, WITHOUT ROWID;

CREATE TABLE run_events (
  event   INTEGER PRIMARY KEY,
  run     INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
  at      TEXT NOT NULL,
  kind    TEXT NOT NULL,
  message TEXT NOT NULL
) STRICT;

CREATE INDEX run_events_by_run ON run_events (run, event);

CREATE VIEW settings AS
  SELECT r.id AS run, s.key, s.value
  FROM run_settings s JOIN runs r ON r.number = s.run;

CREATE VIEW metrics AS
  SELECT r.id AS run, n.name, p.step, p.tokens,
         strftime('%Y-%m-%dT%H:%M:%fZ', p.at / 1000.0, 'unixepoch') AS time,
         p.elapsed / 1000.0 AS seconds, p.value
  FROM run_points p
  JOIN runs r ON r.number = p.run
  JOIN metric_names n ON n.metric = p.metric;

CREATE VIEW latest AS
  SELECT r.id AS run, n.name, s.step, s.value, s.best_step, s.best
  FROM run_summaries s
  JOIN runs r ON r.number = s.run
  JOIN metric_names n ON n.metric = s.metric;

CREATE VIEW tags AS
  SELECT r.id AS run, t.tag FROM run_tags t JOIN runs r ON r.number = t.run;

CREATE VIEW events AS
  SELECT r.id AS run, e.at AS time, e.kind, e.message
  FROM run_events e JOIN runs r ON r.number = e.run;
