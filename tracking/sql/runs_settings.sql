SELECT run, key, value, type FROM run_settings
WHERE run IN (SELECT value FROM json_each(?))
