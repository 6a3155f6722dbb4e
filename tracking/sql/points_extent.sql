SELECT coalesce(max(elapsed), 0), coalesce(max(tokens), 0) FROM run_points WHERE run = ?
