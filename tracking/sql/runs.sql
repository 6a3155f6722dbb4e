-- Completed in Go by WHERE, ORDER BY and LIMIT. The status is the one readers
-- see: a run whose process is gone has crashed, though nobody wrote it down.
WITH seen AS (
  SELECT *,
         CASE WHEN status = 'running' AND is_dead(host, boot, pid_namespace, pid, process_start, heartbeat)
              THEN 'crashed' ELSE status END AS state
  FROM runs
)
SELECT number, id, name, note, state, reason, started, coalesce(ended, ''), heartbeat,
       seconds, steps, tokens, host, pid, cpu, device, threads,
       dataset, dataset_path, dataset_fingerprint, parent
FROM seen
