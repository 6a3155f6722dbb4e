SELECT number,
       CASE WHEN status = 'running' AND is_dead(host, boot, pid_namespace, pid, process_start, heartbeat)
            THEN 'crashed' ELSE status END,
       host, pid, heartbeat
FROM runs WHERE id = ?
