SELECT id FROM runs WHERE name = ? ORDER BY started DESC, number DESC LIMIT 1
