-- Follows seen.sql; completed in Go by WHERE, ORDER BY and LIMIT.
SELECT number, id, name, note, state, reason, started, coalesce(ended, ''), heartbeat,
       seconds, steps, tokens, host, pid, cpu, device, threads,
       dataset, dataset_path, dataset_fingerprint, parent
FROM seen
