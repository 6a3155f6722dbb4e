SELECT run, key, value, type FROM run_settings
WHERE run IN (SELECT value FROM json_each(:runs))
  AND (:keys IS NULL OR key IN (SELECT value FROM json_each(:keys)))
