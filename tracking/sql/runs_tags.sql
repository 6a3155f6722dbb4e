SELECT run, tag FROM run_tags
WHERE run IN (SELECT value FROM json_each(?))
ORDER BY run, tag
