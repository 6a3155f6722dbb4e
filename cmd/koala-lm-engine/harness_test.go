package main

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/koala-lm/koala-lm/cmd/internal/exit"
	"github.com/koala-lm/koala-lm/cmd/internal/request"
	"github.com/koala-lm/koala-lm/cmd/internal/serial"
	"github.com/koala-lm/koala-lm/configs"
	"github.com/koala-lm/koala-lm/data/prepare"
	"github.com/koala-lm/koala-lm/internal/safetensors"
	"github.com/koala-lm/koala-lm/lm/checkpoint"
	"github.com/koala-lm/koala-lm/run"
	"github.com/koala-lm/koala-lm/tracking"
)

// engineVariable makes this test binary the engine. The tests need processes, with
// signals, exit codes and kills.
const engineVariable = "KOALA_LM_TEST_ENGINE"

func TestMain(m *testing.M) {
	if os.Getenv(serial.Variable) != "" {
		serial.Serve(0, func(args []string, stderr io.Writer) int {
			return execute(context.Background(), args, io.Discard, stderr)
		})
	}
	if os.Getenv(engineVariable) != "" {
		main()
	}
	code := m.Run()
	for _, folder := range atEnd {
		_ = os.RemoveAll(folder)
	}
	os.Exit(code)
}

// atEnd are folders that several tests share, to be removed after the last.
var atEnd []string

// A workshop is a folder with a dataset, a store and runs.
type workshop struct {
	t     testing.TB
	data  string
	store string
	runs  string
}

func newWorkshop(t testing.TB) *workshop {
	t.Helper()
	return newWorkshopIn(t, t.TempDir())
}

// newWorkshopOf makes a workshop with a dataset of the given number of lines.
func newWorkshopOf(t testing.TB, lines int) *workshop {
	t.Helper()
	return newWorkshopWith(t, t.TempDir(), lines)
}

func newWorkshopIn(t testing.TB, folder string) *workshop {
	t.Helper()
	return newWorkshopWith(t, folder, 400)
}

func newWorkshopWith(t testing.TB, folder string, lines int) *workshop {
	t.Helper()
	w := &workshop{t, filepath.Join(folder, "data"), filepath.Join(folder, "koala.db"), filepath.Join(folder, "runs")}
	text := filepath.Join(folder, "text.txt")
	if err := os.WriteFile(text, sentences(lines), 0o644); err != nil {
		t.Fatal(err)
	}
	opts := prepare.Options{Paths: []string{text}, Out: w.data, Valid: 0.1, Test: 0.1, Tokenizer: "word"}
	if _, err := prepare.Run(context.Background(), opts); err != nil {
		t.Fatal(err)
	}
	return w
}

// another returns a workshop with the same dataset and no runs.
func (w *workshop) another(t testing.TB) *workshop {
	folder := t.TempDir()
	return &workshop{t, w.data, filepath.Join(folder, "koala.db"), filepath.Join(folder, "runs")}
}

// sentences returns lines of a small language.
func sentences(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	words := strings.Fields("the a koala tree leaf sleeps eats climbs sees slowly high green and then")
	for range n {
		for range 3 + r.IntN(8) {
			fmt.Fprint(&b, words[min(r.IntN(len(words)), r.IntN(len(words)))], " ")
		}
		fmt.Fprintln(&b)
	}
	return b.Bytes()
}

// settings make a small run that has every kind of state.
func settings(t testing.TB, set ...string) configs.Settings {
	t.Helper()
	var b configs.Builder
	for _, assignment := range append([]string{
		"model.layers=2", "model.embed=8", "train.batch=4", "train.steps=150", "eval.every=20", "eval.batch=4",
		"checkpoint.every=5", "model.dropout.hidden=0.2",
	}, set...) {
		b.Assign(assignment, "--set")
	}
	s, err := b.Settings()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (w *workshop) request(s configs.Settings, resume string) *request.Train {
	return &request.Train{
		Common: request.Common{Build: "test", Command: []string{"koala-lm", "train"}, Device: "cpu", Threads: 1, Quiet: true},
		Data:   w.data, Settings: s, Store: w.store, Runs: w.runs, Resume: resume,
	}
}

// A process is a running engine.
type process struct {
	*exec.Cmd
	stderr output
}

// An output collects what a process writes. A test can wait for a text in it.
type output struct {
	mu      sync.Mutex
	text    strings.Builder
	waiting map[string]chan struct{}
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(p)
	for want, seen := range o.waiting {
		if strings.Contains(o.text.String(), want) {
			close(seen)
			delete(o.waiting, want)
		}
	}
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// await returns once a process has written a text.
func (p *process) await(t testing.TB, text string) {
	t.Helper()
	o := &p.stderr
	seen := make(chan struct{})
	o.mu.Lock()
	if strings.Contains(o.text.String(), text) {
		close(seen)
	} else {
		if o.waiting == nil {
			o.waiting = map[string]chan struct{}{}
		}
		o.waiting[text] = seen
	}
	o.mu.Unlock()
	select {
	case <-seen:
	case <-time.After(time.Minute):
		t.Fatalf("it did not write %q; it said:\n%s", text, o)
	}
}

// train starts an engine on a request.
func (w *workshop) train(r *request.Train) *process {
	w.t.Helper()
	p := w.command(r)
	if err := p.Start(); err != nil {
		w.t.Fatal(err)
	}
	return p
}

// command returns the command of an engine with a request.
func (w *workshop) command(r *request.Train) *process {
	w.t.Helper()
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	text, err := request.Encode(r)
	if err != nil {
		w.t.Fatal(err)
	}
	p := &process{Cmd: exec.Command(self, "train", text)}
	p.Env = append(os.Environ(), engineVariable+"=1")
	p.Stderr = &p.stderr
	return p
}

// code waits for the end of a process and returns its exit code, -1 if a signal
// ended it.
func (p *process) code(t testing.TB) int {
	t.Helper()
	err := p.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return p.ProcessState.ExitCode()
}

// mustEnd checks a process's exit code.
func (p *process) mustEnd(t testing.TB, want int) {
	t.Helper()
	if got := p.code(t); got != want {
		t.Fatalf("exit code %d, want %d; it said:\n%s", got, want, &p.stderr)
	}
}

// run returns the newest run in the store, false if there is none.
func (w *workshop) run() (tracking.RunDetail, bool) { return w.find("latest") }

// find returns the run that a reference names, false if there is none.
func (w *workshop) find(ref string) (tracking.RunDetail, bool) {
	w.t.Helper()
	store, err := tracking.OpenReadOnly(w.store)
	if errors.Is(err, tracking.ErrNoStore) || errors.Is(err, tracking.ErrOlder) { // not yet, or half made
		return tracking.RunDetail{}, false
	}
	if err != nil {
		w.t.Fatal(err)
	}
	defer store.Close()
	detail, err := store.Run(context.Background(), ref)
	if errors.Is(err, tracking.ErrNoRun) {
		return detail, false
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return detail, true
}

// metrics returns a run's values in the store, except times and speeds.
func (w *workshop) metrics(id string) []string {
	w.t.Helper()
	db, err := sql.Open("sqlite3", "file:"+w.store+"?mode=ro")
	if err != nil {
		w.t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query(`SELECT metric_names.name, step, run_points.tokens, quote(value) FROM run_points JOIN metric_names USING (metric)
		JOIN runs ON runs.number = run WHERE id = ? ORDER BY 1, 2`, id)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var name, value string
		var step, tokens int64
		if err := rows.Scan(&name, &step, &tokens, &value); err != nil {
			w.t.Fatal(err)
		}
		if name != "tokens_per_second" && name != "rss_bytes" && !strings.HasSuffix(name, "_ms") {
			all = append(all, fmt.Sprintf("%s at %d (%d tokens) = %s", name, step, tokens, value))
		}
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	var check string
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&check); err != nil || check != "ok" {
		w.t.Fatalf("integrity_check: %s, %v", check, err)
	}
	return all
}

// checkpoints is the folder of a run's checkpoints.
func (w *workshop) checkpoints(id string) string { return run.CheckpointFolder(w.runs, id) }

// content returns the content of a run's last checkpoint, except times and origin.
func (w *workshop) content(id string) map[string]string {
	w.t.Helper()
	f, damaged, err := checkpoint.Latest(w.checkpoints(id))
	if err != nil || len(damaged) > 0 {
		w.t.Fatal(damaged, err)
	}
	defer f.Close()
	f.State.Progress.Elapsed, f.State.Origin = 0, checkpoint.Origin{}
	state, err := json.Marshal(f.State)
	if err != nil {
		w.t.Fatal(err)
	}
	all := map[string]string{"state": string(state)}
	r, err := safetensors.Open(f.Path)
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Close()
	for _, info := range r.Tensors() {
		n, err := info.Bytes()
		if err != nil {
			w.t.Fatal(err)
		}
		content := make([]byte, n)
		if err := r.Read(info.Name, content); err != nil {
			w.t.Fatal(err)
		}
		all[info.Name] = string(content)
	}
	return all
}

// await returns once done reports that another process did what it was to do.
func await(t testing.TB, what string, done func() bool) {
	t.Helper()
	if !happens(done) {
		t.Fatalf("in two minutes there was no sign of %s", what)
	}
}

// happens reports whether done becomes true in two minutes. It asks again and again: a
// file or a row that appears tells nobody.
func happens(done func() bool) bool {
	for deadline := time.Now().Add(2 * time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// damageNewest changes a byte of a run's newest checkpoint, whose path it returns.
func (w *workshop) damageNewest(id string) string {
	w.t.Helper()
	// The link may still lead to the one before: the process was killed.
	saved, _ := filepath.Glob(filepath.Join(w.checkpoints(id), "step-*.safetensors"))
	if len(saved) == 0 {
		w.t.Fatal("there is no checkpoint")
	}
	path := saved[len(saved)-1]
	content, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	content[len(content)-1] ^= 1
	if err := os.WriteFile(path, content, 0o644); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// ended is the result of a run: its status, metrics and last checkpoint.
type ended struct {
	Metrics []string
	Content map[string]string
}

func (w *workshop) ended() ended { return w.endOf("latest") }

// endOf returns the result of the run that a reference names.
func (w *workshop) endOf(ref string) ended {
	w.t.Helper()
	run, ok := w.find(ref)
	if !ok || run.Status != tracking.Finished {
		w.t.Fatalf("run %s is %s: %s", run.ID, cmp.Or(run.Status, "not there"), run.Reason)
	}
	return ended{w.metrics(run.ID), w.content(run.ID)}
}

// long are settings of a run that a test stops before its end.
func long(t testing.TB, set ...string) configs.Settings {
	t.Helper()
	return settings(t, append([]string{"train.steps=1500"}, set...)...)
}

// leftAlone is the result of an undisturbed run with the long settings.
var leftAlone struct {
	sync.Mutex
	folder   string
	workshop *workshop
	ended    ended
}

// fresh returns a workshop without runs, and the result that a run with the long
// settings must have.
func fresh(t testing.TB) (*workshop, ended) {
	t.Helper()
	l := &leftAlone
	l.Lock()
	defer l.Unlock()
	if l.folder == "" {
		var err error
		if l.folder, err = os.MkdirTemp("", "koala-lm-engine-"); err != nil {
			t.Fatal(err)
		}
		atEnd = append(atEnd, l.folder)
		l.workshop = newWorkshopIn(t, l.folder)
		l.workshop.train(l.workshop.request(long(t), "")).mustEnd(t, exit.OK)
		l.ended = l.workshop.ended()
	}
	return l.workshop.another(t), l.ended
}
