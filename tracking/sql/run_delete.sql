DELETE FROM runs WHERE number = ?
