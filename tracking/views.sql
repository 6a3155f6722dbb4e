-- Views that each connection makes for itself.

-- The runs with the status that readers see: a run whose process is gone has
-- crashed, also while the table says that it is running.
CREATE TEMP VIEW observed_runs AS
SELECT number, id, name, note,
       CASE WHEN status = 'running' AND is_dead(host, boot, pid_namespace, pid, process_start, heartbeat)
            THEN 'crashed' ELSE status END AS status,
       reason, started, ended, heartbeat, seconds, steps, tokens,
       host, boot, pid_namespace, pid, process_start, cpu, device, threads,
       dataset, dataset_path, dataset_fingerprint, dataset_facts,
       parent, git_commit, git_dirty, command, versions, git_diff, lease, dataset_relative
FROM main.runs;
