SELECT coalesce(sum(count), 0) FROM run_spans
WHERE run = (SELECT number FROM runs WHERE id = ?)
  AND metric = (SELECT metric FROM metric_names WHERE name = ?)
