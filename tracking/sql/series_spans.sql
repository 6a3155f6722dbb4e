SELECT first, last, tokens, elapsed, mean, lowest, highest, count FROM run_spans
WHERE run = (SELECT number FROM runs WHERE id = ?)
  AND metric = (SELECT metric FROM metric_names WHERE name = ?)
ORDER BY first
