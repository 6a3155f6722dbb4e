package tracking

import (
	"context"
	"testing"
	"time"
)

func TestDeadRunsReadAsCrashed(t *testing.T) {
	tests := map[string]struct {
		change string // to the row of a live run
		want   Status
	}{
		"alive":                     {"host = host", Running},
		"alive with an old clock":   {"heartbeat = '2001-01-01T00:00:00.000Z'", Running},
		"alive, the clock set back": {"heartbeat = '2101-01-01T00:00:00.000Z'", Running},
		"process gone":              {"pid = 1073741824", Crashed},
		"process id reused":         {"process_start = process_start + 1", Crashed},
		"host rebooted":             {"boot = 'earlier'", Crashed},
		"other host, fresh":         {"host = 'elsewhere'", Running},
		"other host, silent":        {"host = 'elsewhere', heartbeat = '2001-01-01T00:00:00.000Z'", Crashed},
		"other host, never a pulse": {"host = 'elsewhere', heartbeat = ''", Crashed},
		"other host, clock ahead":   {"host = 'elsewhere', heartbeat = strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '+20 seconds')", Running},
		"other host, from 2101":     {"host = 'elsewhere', heartbeat = '2101-01-01T00:00:00.000Z'", Crashed},
		"ended":                     {"status = 'finished', pid = 1073741824", Finished},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			startRun(t, s, NewRun{Name: "r"})
			if _, err := s.write.Exec("UPDATE runs SET " + test.change); err != nil {
				t.Fatal(err)
			}
			detail, err := s.Run(context.Background(), "latest")
			if err != nil || detail.Status != test.want {
				t.Errorf("status %q, want %q (%v)", detail.Status, test.want, err)
			}
			if test.want == Crashed && detail.Reason == "" {
				t.Error("a crash without a reason")
			}
		})
	}
}

func TestHeartbeatWithoutMetrics(t *testing.T) {
	s := newStore(t)
	clock := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	s.now = func() time.Time { return clock }
	run := startRun(t, s, NewRun{Name: "r"})
	read := func() (heartbeat string) {
		if err := s.read.QueryRow("SELECT heartbeat FROM runs").Scan(&heartbeat); err != nil {
			t.Fatal(err)
		}
		return heartbeat
	}
	first := read()
	w := &writer{run: run, store: s, number: 1, lease: 1, lastWrite: time.Now()}
	w.writeIfDue()
	if read() != first {
		t.Error("a heartbeat before it is due")
	}
	clock = clock.Add(HeartbeatEvery)
	w.lastWrite = time.Now().Add(-HeartbeatEvery)
	w.writeIfDue()
	if read() <= first {
		t.Error("no heartbeat when it was due")
	}
}
