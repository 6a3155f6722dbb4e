UPDATE runs SET note = ? WHERE number = ?
