-- In a query with one max() or min(), SQLite takes the other columns from the
-- row that has it. 9e999 is infinity, which is never best.
INSERT INTO run_summaries (run, metric, step, value, best_step, best)
SELECT :run, last.metric, last.step, last.value, best.step, best.value
FROM (SELECT metric, max(step) AS step, value FROM run_points WHERE run = :run GROUP BY metric) last
LEFT JOIN (
  SELECT p.metric, p.step, p.value, min(CASE n.highest WHEN 1 THEN -p.value ELSE p.value END)
  FROM run_points p JOIN metric_names n ON n.metric = p.metric
  WHERE p.run = :run AND p.value > -9e999 AND p.value < 9e999
  GROUP BY p.metric
) best ON best.metric = last.metric
