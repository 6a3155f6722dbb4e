SELECT number FROM runs WHERE id = ?
