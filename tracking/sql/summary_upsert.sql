INSERT INTO run_summaries (run, metric, step, value, best_step, best) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (run, metric) DO UPDATE
SET step = excluded.step, value = excluded.value, best_step = excluded.best_step, best = excluded.best
