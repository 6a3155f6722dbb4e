SELECT dataset_facts, git_commit, git_dirty, git_diff, command, versions FROM runs WHERE number = ?
