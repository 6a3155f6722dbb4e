UPDATE runs
SET status = 'crashed', ended = heartbeat, reason = 'process ' || pid || ' on ' || host || ' is gone'
WHERE status = 'running' AND is_dead(host, boot, pid_namespace, pid, process_start, heartbeat)
