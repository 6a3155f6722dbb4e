UPDATE runs
SET status = 'running', reason = '', ended = NULL, heartbeat = :heartbeat,
    seconds = :seconds, steps = :steps, tokens = :tokens,
    host = :host, boot = :boot, pid_namespace = :pid_namespace, pid = :pid, process_start = :process_start,
    device = :device, threads = :threads, command = :command
WHERE number = :run
