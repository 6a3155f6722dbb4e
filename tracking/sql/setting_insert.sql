INSERT INTO run_settings (run, key, value, type) VALUES (?, ?, ?, ?)
