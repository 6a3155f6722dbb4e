UPDATE runs SET status = :status, reason = :reason, ended = :ended, heartbeat = :ended, seconds = :seconds
WHERE number = :run
