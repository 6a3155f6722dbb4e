DELETE FROM run_summaries WHERE run = :run
