package prepare

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/koala-lm/koala-lm/data"
)

// The test binary as a preparation that kills itself when it has encoded so many bytes
// of train.
const killAfter = "PREPARE_TEST_KILL_AFTER"

func TestMain(m *testing.M) {
	saveEvery = 2
	if bytes, err := strconv.ParseInt(os.Getenv(killAfter), 10, 64); err == nil {
		_, err := Run(context.Background(), Options{Paths: os.Args[2:], Out: os.Args[1], Tokenizer: "byte", Valid: 0.1, Workers: 2, Progress: &killer{after: bytes}})
		fmt.Fprintln(os.Stderr, "not killed:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// killer is a Progress that kills the process.
type killer struct {
	encodes bool
	after   int64
}

func (k *killer) Stage(name string, _ int64) { k.encodes = name == "encode train" }

func (k *killer) Add(n int64) {
	if !k.encodes {
		return
	}
	if k.after -= n; k.after <= 0 {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

// encoded counts the pieces that the stages encode.
type encoded struct {
	encodes bool
	calls   int
}

func (e *encoded) Stage(name string, _ int64) { e.encodes = strings.HasPrefix(name, "encode") }
func (e *encoded) Add(int64) {
	if e.encodes {
		e.calls++
	}
}

// A preparation that was killed continues if the text, the tokenizer and the settings
// are the same, and otherwise starts again. The dataset is the same to the byte.
func TestContinuesAfterKill(t *testing.T) {
	draw := rand.New(rand.NewPCG(1, 2))
	texts := map[string]string{}
	for name, sizes := range map[string][]int{"documents.txt": {5_000_000}, "more.txt": {3_000_000}} {
		var text strings.Builder
		for text.Len() < sizes[0] {
			fmt.Fprintf(&text, "%d koalas eat %d leaves\n", draw.IntN(1000), draw.IntN(100))
		}
		texts[name] = text.String()
	}
	dir := tree(t, texts)
	paths := []string{filepath.Join(dir, "documents.txt"), filepath.Join(dir, "more.txt")}
	whole := filepath.Join(t.TempDir(), "data")
	options := func(out string) Options {
		return Options{Paths: paths, Out: out, Tokenizer: "byte", Valid: 0.1, Workers: 1}
	}
	counts := encoded{}
	opts := options(whole)
	opts.Progress = &counts
	run(t, opts)
	all := counts.calls

	for _, c := range []struct {
		name      string
		kills     []string // the bytes after which each preparation is killed
		change    func(t *testing.T, opts *Options, leftover string)
		continues bool
	}{
		{name: "once", kills: []string{"5000000"}, continues: true},
		{name: "twice", kills: []string{"3000000", "6000000"}, continues: true},
		{name: "before an entry", kills: []string{"1"}},
		{name: "at the end of train", kills: []string{"7000000"}, continues: true},
		{name: "another split", kills: []string{"5000000"}, change: func(_ *testing.T, opts *Options, _ string) { opts.Valid = 0 }},
		{name: "a short file", kills: []string{"5000000"}, change: func(t *testing.T, _ *Options, leftover string) {
			if err := os.Truncate(filepath.Join(leftover, "train.bin"), 1000); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "a damaged journal", kills: []string{"5000000"}, change: func(t *testing.T, _ *Options, leftover string) {
			if err := os.WriteFile(filepath.Join(leftover, journalFile), []byte("{"), 0o644); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "data")
			for _, bytes := range c.kills {
				cmd := exec.Command(os.Args[0], append([]string{out}, paths...)...)
				cmd.Env = append(os.Environ(), killAfter+"="+bytes)
				if text, _ := cmd.CombinedOutput(); cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
					t.Fatalf("the preparation was not killed: %s", text)
				}
			}
			counts := encoded{}
			opts := options(out)
			opts.Progress = &counts
			want := whole
			if c.change != nil {
				c.change(t, &opts, filepath.Join(filepath.Dir(out), ".data.preparing"))
				if opts.Valid == 0 {
					want = filepath.Join(t.TempDir(), "data")
					other := opts
					other.Out, other.Progress = want, nil
					run(t, other)
				}
			}
			run(t, opts)
			if continued := counts.calls < all-1; continued != c.continues {
				t.Errorf("%d pieces were encoded of %d, so it continued: %v", counts.calls, all, continued)
			}
			sameFolder(t, out, want)
			d, err := data.Open(out)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if err := d.Verify(); err != nil {
				t.Error(err)
			}
		})
	}
}

// sameFolder compares two folders file by file.
func sameFolder(t *testing.T, got, want string) {
	t.Helper()
	files := func(dir string) map[string]string {
		all := map[string]string{}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			content, err := os.ReadFile(filepath.Join(dir, entry.Name()))
			if err != nil {
				t.Fatal(err)
			}
			all[entry.Name()] = string(content)
		}
		return all
	}
	a, b := files(got), files(want)
	for name, content := range b {
		if a[name] != content {
			t.Errorf("%s differs", name)
		}
		delete(a, name)
	}
	for name := range a {
		t.Errorf("%s should not be there", name)
	}
}
