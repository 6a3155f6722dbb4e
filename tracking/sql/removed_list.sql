SELECT id FROM removed_runs ORDER BY id
