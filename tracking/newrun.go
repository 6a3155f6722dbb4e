package tracking

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/koala-lm/koala-lm/tracking/environment"
)

// NewRun is what is known of a run when it starts.
type NewRun struct {
	ID   string // made by NewID; empty makes one
	Name string // need not be unique; empty takes the start of the id
	Note string
	Tags []string

	// Settings by dotted key. A value is nil, a bool, any integer or float, a
	// string, or something encoding/json can write (kept as JSON); its type
	// survives into reports.
	Settings map[string]any

	Dataset  Dataset
	Git      environment.Git
	Command  []string
	CPU      string // environment.CPU()
	Device   string
	Threads  int
	Versions map[string]string // koala-lm, go, libtorch, ...
	Parent   string            // id of the run this one was forked from
}

// Dataset says what a run is trained on. Perplexities compare only between runs
// of one fingerprint.
type Dataset struct {
	Name        string
	Path        string // absolute
	Fingerprint string

	// Facts are any others worth keeping, such as the size of the vocabulary.
	Facts map[string]any

	// Metrics are known before the first step and recorded at step 0, such as
	// val_unigram_ppl.
	Metrics map[string]float64
}

// NewID returns a ULID in lower case: unique, and sorted by time.
func NewID(now time.Time) string {
	return strings.ToLower(ulid.MustNew(ulid.Timestamp(now), rand.Reader).String())
}

// StartRun records a new run as running and starts its writer.
func (s *Store) StartRun(ctx context.Context, n NewRun) (*Run, error) {
	if s.write == nil {
		return nil, fmt.Errorf("start run: the store %s is open for reading only", s.path)
	}
	now := s.now()
	n.ID = cmp.Or(n.ID, NewID(now))
	n.Name = cmp.Or(n.Name, n.ID[:min(10, len(n.ID))])
	run := newRunHandle(s, n.ID, now)
	if err := run.Log(Point{Time: now, Values: n.Dataset.Metrics}); err != nil {
		return nil, fmt.Errorf("start run: %w", err)
	}
	w := &writer{run: run, store: s}
	w.take()
	var reached progress
	// One transaction: whenever the process dies, there is no run without what was
	// known of it at its start.
	err := s.update(ctx, func(tx *sql.Tx) (err error) {
		if w.number, err = insertRun(ctx, tx, n, now); err != nil {
			return err
		}
		reached, err = w.put(ctx, tx, nil)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("start run: %w", err)
	}
	w.wrote(reached)
	go w.loop()
	return run, nil
}

// insertRun records a run with its settings and tags.
func insertRun(ctx context.Context, tx *sql.Tx, n NewRun, now time.Time) (number int64, err error) {
	facts, err := jsonObject(n.Dataset.Facts)
	if err != nil {
		return 0, fmt.Errorf("dataset facts: %w", err)
	}
	versions, err := jsonObject(n.Versions)
	if err != nil {
		return 0, err
	}
	command, err := commandJSON(n.Command)
	if err != nil {
		return 0, err
	}
	self := environment.Self()
	err = tx.QueryRowContext(ctx, runInsertSQL,
		sql.Named("id", n.ID), sql.Named("name", n.Name), sql.Named("note", n.Note),
		sql.Named("started", formatTime(now)),
		sql.Named("host", self.Host), sql.Named("boot", self.Boot), sql.Named("pid_namespace", self.Namespace),
		sql.Named("pid", self.PID), sql.Named("process_start", self.Start),
		sql.Named("cpu", n.CPU), sql.Named("device", n.Device), sql.Named("threads", n.Threads),
		sql.Named("dataset", n.Dataset.Name), sql.Named("dataset_path", n.Dataset.Path),
		sql.Named("dataset_fingerprint", n.Dataset.Fingerprint), sql.Named("dataset_facts", facts),
		sql.Named("parent", n.Parent), sql.Named("git_commit", n.Git.Commit),
		sql.Named("git_dirty", n.Git.Dirty), sql.Named("git_diff", n.Git.Diff),
		sql.Named("command", command), sql.Named("versions", versions),
	).Scan(&number)
	if err != nil {
		return 0, err
	}
	for key, value := range n.Settings {
		stored, kind, err := encodeSetting(value)
		if err != nil {
			return 0, fmt.Errorf("setting %s: %w", key, err)
		}
		if _, err := tx.ExecContext(ctx, settingInsertSQL, number, key, stored, kind); err != nil {
			return 0, err
		}
	}
	for _, tag := range n.Tags {
		if _, err := tx.ExecContext(ctx, tagInsertSQL, number, tag); err != nil {
			return 0, err
		}
	}
	_, err = tx.ExecContext(ctx, eventInsertSQL, number, formatTime(now), "started", self.String())
	return number, err
}

// jsonObject writes a map as a JSON object, a nil map as an empty one.
func jsonObject[V any](m map[string]V) (string, error) {
	if m == nil {
		return "{}", nil
	}
	text, err := json.Marshal(m)
	return string(text), err
}

// commandJSON writes a command line as a JSON array.
func commandJSON(command []string) (string, error) {
	text, err := json.Marshal(append([]string{}, command...))
	return string(text), err
}
