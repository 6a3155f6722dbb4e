DELETE FROM run_points WHERE run = ? AND step > ?
