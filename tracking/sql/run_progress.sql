UPDATE runs
SET heartbeat = :heartbeat, seconds = :seconds, steps = max(steps, :steps), tokens = max(tokens, :tokens)
WHERE number = :run
