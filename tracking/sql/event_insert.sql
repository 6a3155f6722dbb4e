INSERT INTO run_events (run, at, kind, message) VALUES (?, ?, ?, ?)
