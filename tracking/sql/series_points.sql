SELECT step, tokens, at, elapsed, value FROM run_points
WHERE run = (SELECT number FROM runs WHERE id = ?)
  AND metric = (SELECT metric FROM metric_names WHERE name = ?)
ORDER BY step
