SELECT s.run, n.name, s.step, s.value, s.best_step, s.best
FROM run_summaries s JOIN metric_names n ON n.metric = s.metric
WHERE s.run IN (SELECT value FROM json_each(:runs))
  AND (:names IS NULL OR n.name IN (SELECT value FROM json_each(:names)))
