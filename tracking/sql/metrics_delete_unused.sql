DELETE FROM metric_names AS n
WHERE NOT EXISTS (SELECT 1 FROM runs r JOIN run_summaries s ON s.run = r.number AND s.metric = n.metric)
