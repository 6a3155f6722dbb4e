package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/koala-lm/koala-lm/cmd/internal/exit"
	"github.com/koala-lm/koala-lm/tracking"
	"github.com/koala-lm/koala-lm/tracking/storetest"
)

// reported runs `koala-lm report ARGS` on a store and returns its exit code and its
// output.
func reported(t *testing.T, store string, args ...string) (code int, out, errOut string) {
	t.Helper()
	t.Setenv("KOALA_LM_STORE", store)
	var o, e bytes.Buffer
	code = execute(context.Background(), &streams{In: strings.NewReader(""), Out: &o, ErrOut: &e, Width: 80}, append([]string{"report"}, args...))
	return code, o.String(), e.String()
}

// filledStore has runs of every kind, one of them being trained by this process,
// and one whose process is gone.
func filledStore(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "koala.db")
	store, err := tracking.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := storetest.Fill(context.Background(), store); err != nil {
		t.Fatal(err)
	}
	run, err := store.StartRun(context.Background(), storetest.Example("alive", "adamw", 1, 1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		run.Finish(tracking.Finished, "")
		store.Close()
	})
	return path
}

// verbs are command lines that only read, each with the text that it must print from
// a filled store.
func verbs(folder string) map[string]string {
	return map[string]string{
		"":                                 "koala++ 2",
		"list":                             "alive",
		"list --format json":               `"status": "running"`,
		"list --format md --sort val_ppl":  "| name |",
		"list --columns name,best.val_ppl": "name\tbest.val_ppl",
		"list --where steps>=250":          "koala++ 2",
		"show latest":                      "name\talive",
		"show best --format table":         "Perplexity",
		"show best --format json":          `"dataset_facts"`,
		"show latest --format md":          "## Run alive",
		"compare latest best":              "optimizer.kind",
		"compare --where steps>=200":       "train.seed",
		"best --group-by optimizer.kind":   "koala-v",
		"best --by test_ppl --format json": `"best": `,
		"curve best":                       "koala++ 2",
		"curve best --format table":        "val_ppl",
		"query SELECT~count(*)FROM~runs":   "13",
		"export best --metric val_ppl":     "run,name,metric",
		"export --to jsonl":                `"metric":"val_ppl"`,
		"gc --dry-run":                     "",
		"curve --where steps>=200 --metric train_ppl --group-by model.layers --log-y --out " + folder + "/c.svg": "",
		"curve best --metric train_loss --smooth 0.5 --x time --out " + folder + "/c.png":                        "",
		"html --out " + folder + "/r.html":                    "",
		"export --to tensorboard --out " + folder + "/events": "",
		"export --to sqlite --out " + folder + "/copy.db":     "",
	}
}

// arguments splits a line at spaces; ~ is a space within an argument.
func arguments(line string) []string {
	args := strings.Fields(line)
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "~", " ")
	}
	return args
}

func TestReportVerbs(t *testing.T) {
	store := filledStore(t)
	folder := t.TempDir()
	for line, want := range verbs(folder) {
		code, out, errOut := reported(t, store, arguments(line)...)
		if code != exit.OK || !strings.Contains(out, want) {
			t.Errorf("report %s: exit code %d, no %q in\n%s%s", line, code, want, out, errOut)
		}
	}
	for _, file := range []string{"c.svg", "c.png", "r.html", "copy.db"} {
		if info, err := os.Stat(filepath.Join(folder, file)); err != nil || info.Size() < 1000 {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// An empty store, and a missing store, which no verb may create.
func TestReportWithoutRuns(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "koala.db")
	store, err := tracking.Open(empty)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	folder, elsewhere := t.TempDir(), t.TempDir()
	for line := range verbs(folder) {
		code, _, errOut := reported(t, empty, arguments(line)...)
		needsRun := strings.Contains(line, "best ") || strings.HasSuffix(line, "best") || strings.Contains(line, "latest") || strings.HasPrefix(line, "curve")
		needsRun = needsRun || strings.HasPrefix(line, "html") // no page without a run
		needsRun = needsRun && line != "best --group-by optimizer.kind" && line != "best --by test_ppl --format json"
		if (code != exit.OK) != needsRun || needsRun && strings.Count(errOut, "\n") != 1 {
			t.Errorf("report %s on an empty store: exit code %d\n%s", line, code, errOut)
		}
		missing := filepath.Join(folder, "missing", "koala.db")
		code, out, errOut := reported(t, missing, arguments(strings.ReplaceAll(line, folder, elsewhere))...)
		if code != exit.Failed || out != "" || !strings.Contains(errOut, "there is no store") || strings.Count(errOut, "\n") != 1 {
			t.Errorf("report %s on no store: exit code %d\n%s%s", line, code, out, errOut)
		}
		if _, err := os.Stat(filepath.Dir(missing)); err == nil {
			t.Fatalf("report %s made a folder", line)
		}
	}
	if _, out, _ := reported(t, empty, "list", "--format", "json"); out != "[]\n" {
		t.Errorf("%q", out)
	}
}

// A command says that its limit left runs out, and a mean over seeds includes all of
// them.
func TestReportLimits(t *testing.T) {
	store := filledStore(t)
	for line, cut := range map[string]bool{
		"list --limit 5":                                                     true,
		"compare --where steps>0 --limit 5":                                  true,
		"compare --where steps>=250 --limit 5":                               false,
		"curve --where steps>0 --metric train_ppl --limit 5":                 true,
		"curve --where steps>0 --metric train_ppl --group-by optimizer.kind": false,
		"curve best latest --metric train_loss --limit 1":                    false,
		"best --limit 2":                                                     true,
		"best --limit 2 --group-by model.kind":                               false,
		"html --limit 1 --out " + t.TempDir() + "/x.html":                    true,
	} {
		code, _, errOut := reported(t, store, arguments(line)...)
		if code != exit.OK || strings.Contains(errOut, "--limit 0") != cut {
			t.Errorf("report %s: exit code %d, %q", line, code, errOut)
		}
	}
}

func TestReportEdits(t *testing.T) {
	store := filledStore(t)
	steps := []struct {
		line string
		code int
	}{
		{"tag latest one two", exit.OK},
		{"tag latest --remove one", exit.OK},
		{"note latest some~words", exit.OK},
		{"rm latest --yes", exit.Failed}, // it is being trained
		{"rm koala-m~1", exit.Usage},
		{"rm koala-m~1 --yes", exit.OK},
		{"show koala-m~1", exit.Failed},
		{"rm --where steps<100&&status=='finished' --yes", exit.OK},
		{"gc", exit.OK},
	}
	for _, step := range steps {
		if code, out, errOut := reported(t, store, arguments(step.line)...); code != step.code {
			t.Errorf("report %s: exit code %d, want %d\n%s%s", step.line, code, step.code, out, errOut)
		}
	}
	_, out, _ := reported(t, store, "list", "--format", "json")
	var runs []struct {
		Name, Note string
		Tags       []string
	}
	if err := json.Unmarshal([]byte(out), &runs); err != nil {
		t.Fatal(err)
	}
	if len(runs) != 4 || runs[0].Note != "some words" || strings.Join(runs[0].Tags, " ") != "example two" {
		t.Errorf("%+v", runs)
	}
}

// gc deletes the folders of runs that were removed from this store alone.
func TestReportGCFolders(t *testing.T) {
	store := filledStore(t)
	runs := t.TempDir()
	_, out, _ := reported(t, store, "list", "--columns", "id", "--where", "name == 'sgd 3' || name == 'koala-v 0'", "--sort", "name")
	ids := strings.Fields(out)[1:]
	for _, name := range append(ids, "somebody-elses") {
		if err := os.MkdirAll(filepath.Join(runs, name, "checkpoints"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	reported(t, store, "rm", ids[0], "--yes")
	if code, out, _ := reported(t, store, "gc", "--dry-run", "--runs", runs); code != exit.OK || !strings.Contains(out, "would delete "+filepath.Join(runs, ids[0])) {
		t.Errorf("%d %s", code, out)
	}
	if code, _, errOut := reported(t, store, "gc", "--runs", runs); code != exit.OK {
		t.Error(errOut)
	}
	entries, err := os.ReadDir(runs)
	if err != nil || len(entries) != 2 || entries[0].Name() != ids[1] || entries[1].Name() != "somebody-elses" {
		t.Errorf("left: %v (%v)", entries, err)
	}
}

func TestReportWrongUsage(t *testing.T) {
	store := filledStore(t)
	for line, want := range map[string]string{
		"list --where val_pll<3":            "did you mean val_ppl",
		"list --where steps=3":              "==",
		"list --sort nothing":               "unknown name",
		"list --columns nothing":            "unknown name",
		"list --limit -1":                   "negative",
		"list --watch":                      "terminal",
		"show":                              "wants one RUN",
		"query":                             "wants one SQL statement",
		"query x --timeout -1s":             "above 0",
		"note latest":                       "text of the note",
		"tag latest x,y":                    "without commas",
		"tag latest ~":                      "without white space",
		"tag latest a\x1b[31m":              "one line of text",
		"curve latest --metric vall_ppl":    "did you mean val_ppl",
		"list --where status=='done'":       "status is never 'done'",
		"compare":                           "--where",
		"best --by optimizer.kind":          "a setting, not a metric",
		"best --group-by nothing":           "unknown name",
		"curve latest --smooth 1":           "below 1",
		"curve latest --out x.jpg":          ".svg or .png",
		"curve latest --x epochs":           "step",
		"html":                              "--out",
		"export --to tensorboard":           "--out",
		"export --metric nothing":           "unknown name",
		"export --to sqlite latest --out x": "whole store",
		"query DELETE~FROM~main.runs":       "only reading",
		"query nonsense":                    "syntax error",
		"tag latest":                        "--remove",
		"rm":                                "--where",
	} {
		code, _, errOut := reported(t, store, arguments(line)...)
		if code != exit.Usage || !strings.Contains(errOut, want) {
			t.Errorf("report %s: exit code %d, no %q in %s", line, code, want, errOut)
		}
	}
}

// No --out destroys a store, the one in use or another, nor an existing file unless
// --force is given.
func TestReportOutDestroysNothing(t *testing.T) {
	store := filledStore(t)
	folder := t.TempDir()
	other := filepath.Join(folder, "other.db")
	if code, _, errOut := reported(t, store, "export", "--to", "sqlite", "--out", other); code != exit.OK {
		t.Fatal(errOut)
	}
	link := filepath.Join(folder, "link.html")
	if err := os.Symlink(store, link); err != nil {
		t.Fatal(err)
	}
	svg := filepath.Join(folder, "other.svg") // another store under an innocent name
	content, err := os.ReadFile(other)
	if err != nil {
		t.Fatal(err)
	}
	plain := filepath.Join(folder, "notes.svg")
	for file, text := range map[string]string{svg: string(content), plain: "notes"} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	verbs := []string{"html", "curve best --metric train_loss", "export", "export --to jsonl", "export --to sqlite"}
	for _, verb := range verbs {
		targets := []string{store, store + "-wal", store + "-shm", link, other}
		if strings.HasPrefix(verb, "curve") {
			targets = []string{svg}
		}
		for _, target := range targets {
			for _, force := range []string{"", " --force"} {
				t.Run(verb+" "+filepath.Base(target)+force, func(t *testing.T) {
					before, _ := os.ReadFile(target)
					code, _, errOut := reported(t, store, append(arguments(verb+force), "--out", target)...)
					if code != exit.Usage || !strings.Contains(errOut, "store") || !strings.Contains(errOut, "another file") {
						t.Errorf("exit code %d: %s", code, errOut)
					}
					if after, _ := os.ReadFile(target); string(after) != string(before) {
						t.Error("the file changed")
					}
				})
			}
		}
		t.Run(verb+" over a file", func(t *testing.T) {
			if err := os.WriteFile(plain, []byte("notes"), 0o644); err != nil {
				t.Fatal(err)
			}
			code, _, errOut := reported(t, store, append(arguments(verb), "--out", plain)...)
			if text, _ := os.ReadFile(plain); code != exit.Usage || !strings.Contains(errOut, "exists: --force replaces it") || string(text) != "notes" {
				t.Errorf("exit code %d: %s", code, errOut)
			}
			code, _, errOut = reported(t, store, append(arguments(verb), "--force", "--out", plain)...)
			if text, _ := os.ReadFile(plain); code != exit.OK || string(text) == "notes" {
				t.Errorf("--force: exit code %d: %s", code, errOut)
			}
		})
	}
	if code, _, errOut := reported(t, store, "html", "--out", folder); code != exit.Usage || !strings.Contains(errOut, "is a folder") {
		t.Errorf("a folder: exit code %d: %s", code, errOut)
	}
	if code, _, errOut := reported(t, store, "export", "--to", "tensorboard", "--out", folder); code != exit.Usage || !strings.Contains(errOut, "not empty") {
		t.Errorf("a folder with files: exit code %d: %s", code, errOut)
	}
	if code, _, _ := reported(t, store, "export", "--out", "/dev/null"); code != exit.OK {
		t.Errorf("a device: exit code %d", code)
	}
	if info, err := os.Stat("/dev/null"); err != nil || info.Mode().IsRegular() {
		t.Error("/dev/null was replaced")
	}
}

// A filter that SQLite would understand differently from people removes nothing.
func TestReportRmShowsWhatItTakes(t *testing.T) {
	store := filledStore(t)
	count := func() string {
		_, out, _ := reported(t, store, "query", "SELECT count(*) FROM runs", "--format", "tsv")
		return strings.Fields(out)[1]
	}
	before := count()
	for _, where := range []string{"optimizer.lr < '0.0001'", "seconds < '1m'", "name > 5", "status == 'done'", "val_ppl"} {
		if code, _, errOut := reported(t, store, "rm", "--where", where, "--yes"); code != exit.Usage || count() != before {
			t.Errorf("%s: exit code %d, %s runs of %s left: %s", where, code, count(), before, errOut)
		}
	}
	code, _, errOut := reported(t, store, "rm", "--where", "steps >= 200", "--dry-run")
	if code != exit.OK || count() != before {
		t.Errorf("--dry-run: exit code %d, %s runs left", code, count())
	}
	for _, part := range []string{"koala-v 0", "koala++ 2", "4 of the store's 13 runs"} {
		if !strings.Contains(errOut, part) {
			t.Errorf("no %q in\n%s", part, errOut)
		}
	}
}

// Whatever the name of a run, a terminal gets only plain text.
func TestReportIsHarmlessOnTerminals(t *testing.T) {
	store := filledStore(t)
	for _, name := range storetest.DangerousNames {
		for _, args := range [][]string{{"list"}, {"show", name}, {"compare", name, "latest"}, {"best"}, {"curve", name}, {"query", "SELECT name, note FROM runs"}} {
			code, out, errOut := reported(t, store, append(args, "--format", "table")...)
			if code != exit.OK {
				t.Errorf("report %q: %s", args, errOut)
			}
			if i := strings.IndexFunc(out, func(r rune) bool { return unicode.IsControl(r) && r != '\n' || unicode.Is(unicode.Bidi_Control, r) }); i >= 0 {
				t.Errorf("report %q writes %q", args, out[i:i+1])
			}
		}
	}
}

// A watched page keeps within the terminal, also where a line takes several rows.
func TestCutLines(t *testing.T) {
	page := "short\n" + strings.Repeat("x", 161) + "\nlast\n"
	for height, want := range map[int]string{100: page, 6: page, 5: page[:6+162], 4: "short\n", 2: "short\n"} {
		if got := string(cutLines([]byte(page), 80, height)); got != want {
			t.Errorf("%d rows: %q", height, got)
		}
	}
}

// prompted calls then once the prompt is written.
type prompted struct {
	bytes.Buffer
	then func()
}

func (p *prompted) Write(text []byte) (int, error) {
	if bytes.Contains(text, []byte("[y/N]")) {
		p.then()
	}
	return p.Buffer.Write(text)
}

// The first Ctrl-C ends the prompt of rm, although nobody answers; a yes removes.
func TestReportRmPrompt(t *testing.T) {
	store := filledStore(t)
	t.Setenv("KOALA_LM_STORE", store)
	in, answer := io.Pipe()
	defer answer.Close()
	for name, test := range map[string]struct {
		reply string // "" is Ctrl-C
		code  int
		left  string
	}{"interrupted": {"", exit.Interrupted, "13"}, "no": {"n\n", exit.OK, "13"}} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			var in io.Reader = in
			errOut := &prompted{then: func() { cancel(errInterrupted) }}
			if test.reply != "" {
				in, errOut.then = strings.NewReader(test.reply), func() {}
			}
			code := execute(ctx, &streams{In: in, Out: io.Discard, ErrOut: errOut, InIsTerminal: true, Width: 80}, []string{"report", "rm", "sgd 3"})
			_, out, _ := reported(t, store, "query", "SELECT count(*) FROM runs", "--format", "tsv")
			if code != test.code || strings.Fields(out)[1] != test.left || !strings.Contains(errOut.String(), "remove 1 run?") {
				t.Errorf("exit code %d, %s runs left: %s", code, out, errOut)
			}
		})
	}
}

// A command whose reader has ended does all the same what it was asked to do; one that
// only prints ends quietly.
func TestClosedPipes(t *testing.T) {
	for name, test := range map[string]struct {
		line    string
		stderr  bool // is a closed pipe too
		code    int
		message string
		left    string // runs in the store
	}{
		"rm":            {"rm --where steps>=200 --yes", false, exit.OK, "removed 4 runs", "9"},
		"rm 2>&1":       {"rm --where steps>=200 --yes", true, exit.OK, "", "9"},
		"rm of no run":  {"rm --where steps>=9000 --yes", true, exit.OK, "", "13"},
		"rm of running": {"rm --where steps>=0 --yes", false, exit.Failed, "still running", "13"},
		"rm dry run":    {"rm --where steps>=200 --yes --dry-run", true, exit.OK, "", "13"},
		"gc":            {"gc", false, exit.OK, "", "13"},
		"list":          {"list", false, exit.ClosedPipe, "", "13"},
		"export":        {"export", false, exit.ClosedPipe, "", "13"},
		"wrong usage":   {"list --limit x", true, exit.Usage, "", "13"},
	} {
		t.Run(name, func(t *testing.T) {
			store := filledStore(t)
			read, closed, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer closed.Close()
			read.Close()
			var errOut bytes.Buffer
			cmd := &exec.Cmd{Path: os.Args[0], Args: append([]string{"koala-lm", "report"}, arguments(test.line)...), Stdout: closed, Stderr: &errOut}
			if test.stderr {
				cmd.Stderr = closed
			}
			cmd.Env = append(os.Environ(), "KOALA_LM_STORE="+store)
			_ = cmd.Run() // its error is the exit code
			_, out, _ := reported(t, store, "query", "SELECT count(*) FROM runs", "--format", "tsv")
			if code := cmd.ProcessState.ExitCode(); code != test.code || strings.Fields(out)[1] != test.left || !strings.Contains(errOut.String(), test.message) {
				t.Errorf("exit code %d, want %d; runs left: %s\n%s", code, test.code, out, &errOut)
			}
			if strings.Contains(errOut.String(), "pipe") {
				t.Errorf("a message that explains nothing: %s", &errOut)
			}
		})
	}
}
