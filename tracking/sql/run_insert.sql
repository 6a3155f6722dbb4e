INSERT INTO runs (
  id, name, note, status, started, heartbeat,
  host, boot, pid_namespace, pid, process_start, cpu, device, threads,
  dataset, dataset_path, dataset_fingerprint, dataset_facts,
  parent, git_commit, git_dirty, git_diff, command, versions
) VALUES (
  :id, :name, :note, 'running', :started, :started,
  :host, :boot, :pid_namespace, :pid, :process_start, :cpu, :device, :threads,
  :dataset, :dataset_path, :dataset_fingerprint, :dataset_facts,
  :parent, :git_commit, :git_dirty, :git_diff, :command, :versions
)
RETURNING number
