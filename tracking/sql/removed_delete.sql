DELETE FROM removed_runs WHERE id = ?
