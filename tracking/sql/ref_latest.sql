SELECT id FROM runs ORDER BY started DESC, number DESC LIMIT 1
