-- The runs as readers see them: one whose process is gone has crashed, though
-- nobody wrote it down.
WITH seen AS (
  SELECT *,
         CASE WHEN status = 'running' AND is_dead(host, boot, pid_namespace, pid, process_start, heartbeat)
              THEN 'crashed' ELSE status END AS state
  FROM runs
)
