SELECT name FROM metric_names n
WHERE NOT EXISTS (SELECT 1 FROM runs r JOIN run_summaries s ON s.run = r.number AND s.metric = n.metric)
ORDER BY name
