INSERT INTO run_points (run, metric, step, tokens, at, elapsed, value) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run, metric, step) DO UPDATE
SET tokens = excluded.tokens, at = excluded.at, elapsed = excluded.elapsed, value = excluded.value
