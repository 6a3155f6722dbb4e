DELETE FROM run_spans WHERE run = ? AND last > ?
