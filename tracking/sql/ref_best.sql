SELECT r.id
FROM metric_names n
JOIN run_summaries s ON s.metric = n.metric
JOIN runs r ON r.number = s.run
WHERE n.name = ? AND s.best IS NOT NULL
ORDER BY s.best, r.started DESC
LIMIT 1
