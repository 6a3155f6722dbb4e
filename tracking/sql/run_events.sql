SELECT at, kind, message FROM run_events WHERE run = ? ORDER BY event
