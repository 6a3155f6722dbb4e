package endtoend

import (
	"bytes"
	"crypto/sha256"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var faults = flag.Int("faults", 0, "how many system calls of each kind, in every command that writes, TestFaults lets fail")

// A writing is a command that writes something.
type writing struct {
	name    string
	command []string
	target  string // what it makes or changes
	store   bool   // the target is a store, whose bytes differ from run to run
	engine  bool   // the command computes: it starts slowly
	// whole reports whether the target is complete, where it differs from run to run.
	whole func(content []byte) bool
}

// faultyCalls are the system calls that write, and the errors that they can meet.
var faultyCalls = []struct {
	calls  string
	errnos []string
}{
	{"openat", []string{"EMFILE", "ENOSPC", "EINTR"}},
	{"write,pwrite64", []string{"ENOSPC", "EIO", "EINTR"}},
	{"fsync,fdatasync", []string{"EIO", "ENOSPC", "EINTR"}},
	{"renameat,renameat2,rename", []string{"EIO", "ENOSPC"}},
	{"mkdirat,mkdir", []string{"ENOSPC", "EIO"}},
	{"ftruncate", []string{"EIO"}},
	{"unlinkat,unlink", []string{"EIO"}},
	{"close", []string{"EIO"}},
}

// Whichever system call of a command that writes fails, or is its last: what it makes
// is whole or absent, what was there stays, nothing is half made, and a failure has a
// message. Afterwards the command does its work.
func TestFaults(t *testing.T) {
	if *faults == 0 {
		t.Skip("-faults NUMBER runs it")
	}
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed")
	}
	nursery := faultNursery(t)
	tried := 0
	for _, w := range []writing{
		{name: "prepare", command: []string{"prepare", "text.txt", "--out", "new", "--valid", "0.1", "--test", "0.1", "--quiet", "--workers", "1"}, target: "new"},
		{name: "prepare again", command: []string{"prepare", "text.txt", "--out", "data", "--tokenizer", "char", "--force", "--quiet", "--workers", "1"}, target: "data"},
		{name: "report html", command: []string{"report", "html", "--out", "page.html"}, target: "page.html",
			whole: func(content []byte) bool { return bytes.HasSuffix(content, []byte("</html>\n")) }},
		{name: "report html again", command: []string{"report", "html", "--out", "old.html", "--force"}, target: "old.html",
			whole: func(content []byte) bool {
				return bytes.HasSuffix(content, []byte("</html>\n")) || string(content) == "old"
			}},
		{name: "report export csv", command: []string{"report", "export", "--to", "csv", "--out", "runs.csv"}, target: "runs.csv"},
		{name: "report export tensorboard", command: []string{"report", "export", "--to", "tensorboard", "--out", "events"}, target: "events"},
		{name: "report curve", command: []string{"report", "curve", "lstm", "--metric", "train_loss", "--out", "curve.png"}, target: "curve.png"},
		{name: "report import", command: []string{"report", "import", "runs/koala.db", "--store", "all.db"}, target: "all.db", store: true},
		{name: "report tag", command: []string{"report", "tag", "lstm", "new"}, target: "runs/koala.db", store: true},
		{name: "report rm", command: []string{"report", "rm", "lstm", "--yes"}, target: "runs/koala.db", store: true},
		{name: "export safetensors", command: []string{"export", "lstm", "--to", "safetensors", "--out", "w.safetensors"}, target: "w.safetensors", engine: true},
		{name: "export huggingface", command: []string{"export", "gpt", "--to", "huggingface", "--out", "hf"}, target: "hf", engine: true},
		{name: "sweep", command: []string{"sweep", "sweep.yaml"}, target: "runs/koala.db", store: true, engine: true},
	} {
		t.Run(w.name, func(t *testing.T) {
			good := copyOf(t, nursery)
			before := contents(t, good, w)
			counts := traceCalls(t, strace, good, w)
			want := contents(t, good, w)
			for _, faulty := range faultyCalls {
				n := 0
				for _, call := range strings.Split(faulty.calls, ",") {
					n += counts[call]
				}
				for _, at := range places(n, *faults, w.engine) {
					for _, how := range append([]string{"signal=KILL"}, faulty.errnos...) {
						if *faults == 1 && how != "signal=KILL" && how != faulty.errnos[0] {
							continue
						}
						if how != "signal=KILL" {
							how = "error=" + how
						}
						inject := fmt.Sprintf("inject=%s:%s:when=%d", faulty.calls, how, at)
						tried++
						tryFault(t, strace, nursery, w, inject, before, want)
					}
				}
			}
		})
	}
	t.Logf("%d faults tried", tried)
}

// places are up to most numbers from 1 to n, the last ones first: a command opens its
// libraries at first, and writes at last.
func places(n, most int, engine bool) []int {
	if engine && most > 1 {
		most /= 4
	}
	var all []int
	for i := range min(most, n) {
		all = append(all, n-i*n/most)
	}
	return slices.Compact(all)
}

func tryFault(t *testing.T, strace, nursery string, w writing, inject, before, want string) {
	t.Helper()
	dir := copyOf(t, nursery)
	defer os.RemoveAll(dir)
	names := allNames(t, dir)
	code, said := w.run(t, dir, strace, "-f", "-qq", "-o", "/dev/null", "-e", inject)
	fail := func(format string, args ...any) {
		t.Helper()
		t.Errorf("%s: exit code %d, %s\nit said: %.600s", inject, code, fmt.Sprintf(format, args...), said)
	}
	killed := strings.Contains(inject, "KILL")
	if code == 127 && strings.Contains(said, "loading shared libraries") {
		return // the program has not begun
	}
	if !killed && code != 0 && code != 1 && code != 2 {
		fail("want 0 or 1")
	}
	if trace := traces.FindString(said); trace != "" {
		fail("it says %s", trace)
	}
	if code == 1 && said == "" && !strings.Contains(inject, "write") {
		fail("no message")
	}
	got := contents(t, dir, w)
	switch {
	case got == want, killed && got == before, code != 0 && got == before:
	case w.store && strings.HasPrefix(got, "whole"): // some of its commits
	default:
		fail("the target is %.200q, was %.200q, should be %.200q", got, before, want)
	}
	if !killed {
		for _, name := range allNames(t, dir) {
			if !slices.Contains(names, name) && !strings.HasPrefix(name, w.target) && !strings.HasPrefix(name, "runs/") &&
				!strings.Contains(inject, "unlink") { // what cannot be removed stays
				fail("%s is left", name)
			}
		}
	}
	// Without the fault it works, also beside what a killed process left.
	if code, said := w.run(t, dir); code != 0 && !(got == want && strings.Contains(said, "--force")) && !(w.name == "report rm" && strings.Contains(said, "no such run")) {
		t.Errorf("%s, then again without: exit code %d: %s", inject, code, said)
	} else if now := contents(t, dir, w); now != want && !w.store {
		t.Errorf("%s, then again without: the target is %.200q, should be %.200q", inject, now, want)
	}
}

// run runs the command, under another program if one is given.
func (w writing) run(t *testing.T, dir string, under ...string) (code int, said string) {
	t.Helper()
	args := append(slices.Clone(under), filepath.Join(bin, "koala-lm"))
	cmd := exec.Command(args[0], append(args[1:], w.command...)...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "OMP_NUM_THREADS=1", "GOMAXPROCS=2", "HOME="+dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), stderr.String()
}

var countedCall = regexp.MustCompile(`^(?:\d+ +)?(\w+)\(`)

// traceCalls runs the command without a fault and counts its system calls.
func traceCalls(t *testing.T, strace, dir string, w writing) map[string]int {
	t.Helper()
	log := filepath.Join(t.TempDir(), "calls")
	var calls []string
	for _, f := range faultyCalls {
		calls = append(calls, f.calls)
	}
	if code, said := w.run(t, dir, strace, "-f", "-qq", "-o", log, "-e", "trace="+strings.Join(calls, ",")); code != 0 {
		t.Skipf("strace does not run here: exit code %d: %s", code, said)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for line := range strings.Lines(string(text)) {
		if found := countedCall.FindStringSubmatch(line); found != nil {
			counts[found[1]]++
		}
	}
	return counts
}

// contents describes what a command makes: "" if it is absent. A store is described by
// its runs.
func contents(t *testing.T, dir string, w writing) string {
	t.Helper()
	target := filepath.Join(dir, w.target)
	if w.store {
		return storeState(target)
	}
	var all strings.Builder
	err := filepath.WalkDir(target, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if w.whole != nil && w.whole(content) {
			content = []byte("whole")
		}
		fmt.Fprintf(&all, "%s %x\n", strings.TrimPrefix(path, dir), sha256.Sum256(content))
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return all.String()
}

// storeState is "whole" and the number of runs, tags and points of a store.
func storeState(path string) string {
	if info, err := os.Stat(path); err != nil || info.Size() == 0 {
		return "" // made, and not yet filled
	}
	db, err := sql.Open("sqlite3", "file:"+path)
	if err != nil {
		return err.Error()
	}
	defer db.Close()
	var check string
	if err := db.QueryRow(`PRAGMA integrity_check`).Scan(&check); err != nil || check != "ok" {
		return fmt.Sprint("damaged: ", check, err)
	}
	var counts [3]int
	for i, table := range []string{"runs", "run_tags", "run_points"} {
		if err := db.QueryRow(`SELECT count(*) FROM ` + table).Scan(&counts[i]); err != nil {
			return "whole, without tables"
		}
	}
	return "whole " + strconv.Itoa(counts[0]) + " " + strconv.Itoa(counts[1]) + " " + strconv.Itoa(counts[2])
}

// allNames lists the files and folders below a folder.
func allNames(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		all = append(all, strings.TrimPrefix(path, dir+"/"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func copyOf(t *testing.T, folder string) string {
	t.Helper()
	dir, err := os.MkdirTemp(t.TempDir(), "")
	if err == nil {
		err = os.CopyFS(dir, os.DirFS(folder))
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// faultNursery makes a folder with a text, a dataset, and a store of two runs.
func faultNursery(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string][]byte{"text.txt": smallLanguage(200), "tiny.yaml": []byte(tiny), "old.html": []byte("old"),
		"sweep.yaml": []byte("config: tiny.yaml\ndata: data\nset: {train.steps: 4}\ngrid: {optimizer.lr: [0.1, 1]}\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"prepare", "text.txt", "--out", "data", "--valid", "0.1", "--test", "0.1", "--quiet"},
		{"train", "--data", "data", "--config", "tiny.yaml", "--threads", "1", "--quiet", "--name", "lstm", "--steps", "10"},
		{"train", "--data", "data", "--threads", "1", "--quiet", "--name", "gpt", "--steps", "4", "--set", "model.kind=transformer", "--set", "model.layers=1",
			"--set", "model.embed=8", "--set", "model.heads=2", "--set", "model.context=8", "--set", "train.batch=2"},
	} {
		if code, said := (writing{command: args}).run(t, dir); code != 0 {
			t.Fatalf("koala-lm %q: exit code %d: %s", args, code, said)
		}
	}
	return dir
}
