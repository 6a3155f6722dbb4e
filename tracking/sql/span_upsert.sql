INSERT INTO run_spans (run, metric, first, last, tokens, elapsed, count, lowest, highest, mean)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run, metric, first) DO UPDATE
SET last = excluded.last, tokens = excluded.tokens, elapsed = excluded.elapsed, count = excluded.count,
    lowest = excluded.lowest, highest = excluded.highest, mean = excluded.mean
