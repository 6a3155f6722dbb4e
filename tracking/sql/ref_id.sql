SELECT id FROM runs WHERE id = ?
