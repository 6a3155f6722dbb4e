-- The settings of the newest runs are enough for a suggestion.
SELECT name FROM metric_names
UNION
SELECT key FROM run_settings WHERE run IN (SELECT number FROM runs ORDER BY number DESC LIMIT 100)
