DELETE FROM run_tags WHERE run = ? AND tag = ?
