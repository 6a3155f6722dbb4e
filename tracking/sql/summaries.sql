SELECT n.metric, n.name, s.step, s.value, s.best_step, s.best
FROM run_summaries s JOIN metric_names n ON n.metric = s.metric
WHERE s.run = ?
ORDER BY n.name
