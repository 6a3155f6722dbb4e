-- What 64 (spanLength) consecutive points of a metric come to, kept by the writer: a chart
-- of a million points reads these.
CREATE TABLE run_spans (
  run     INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
  metric  INTEGER NOT NULL REFERENCES metric_names,
  first   INTEGER NOT NULL,  -- steps
  last    INTEGER NOT NULL,
  tokens  INTEGER NOT NULL,  -- at the last step
  elapsed INTEGER NOT NULL,
  count   INTEGER NOT NULL,  -- of the values that are numbers
  lowest  REAL,
  highest REAL,
  mean    REAL,
  PRIMARY KEY (run, metric, first)
) STRICT, WITHOUT ROWID;

INSERT INTO run_spans
SELECT run, metric, min(step), max(step), max(tokens), max(elapsed),
       count(value), min(value), max(value), avg(value)
FROM (
  SELECT *, (row_number() OVER (PARTITION BY run, metric ORDER BY step) - 1) / 64 AS span
  FROM run_points
)
GROUP BY run, metric, span;
