-- The points that belong to no span, because theirs was cut, make new ones.
INSERT INTO run_spans (run, metric, first, last, tokens, elapsed, count, lowest, highest, mean)
SELECT :run, metric, min(step), max(step), max(tokens), max(elapsed),
       count(value), min(value), max(value), avg(value)
FROM (
  SELECT p.*, (row_number() OVER (PARTITION BY p.metric ORDER BY p.step) - 1) / 64 AS span
  FROM (
    SELECT m.metric, coalesce((SELECT max(s.last) FROM run_spans s WHERE s.run = m.run AND s.metric = m.metric), -1) AS last
    FROM run_summaries m WHERE m.run = :run
  ) known
  JOIN run_points p ON p.run = :run AND p.metric = known.metric AND p.step > known.last
)
GROUP BY metric, span
