package endtoend

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// bin is the folder with the programs. TestMain builds them, unless the environment
// variable KOALA_LM_TEST_BIN names a folder that has them.
var bin = os.Getenv("KOALA_LM_TEST_BIN")

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if bin != "" {
			return m.Run()
		}
		var err error
		if bin, err = os.MkdirTemp("", "koala-lm-endtoend-"); err == nil {
			defer os.RemoveAll(bin)
			var out []byte
			if out, err = exec.Command("go", "build", "-o", bin+"/", "../../...").CombinedOutput(); err != nil {
				err = fmt.Errorf("build: %w\n%s", err, out)
			}
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// Scripts find a dataset of a small language in data/, its text in text.txt, and
// the programs in PATH. Their models are tiny and fast: each script uses one thread.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exitcode": exitcode, "interrupt": interrupt, "terminal": terminal, "flip": flip, "truncate": truncate, "same": same,
		},
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
			e.Setenv("OMP_NUM_THREADS", "1")
			root, err := filepath.Abs("../../..")
			if err != nil {
				return err
			}
			e.Setenv("ROOT", root)
			e.Setenv("HOME", e.WorkDir)
			if err := os.WriteFile(e.Cd+"/text.txt", smallLanguage(600), 0o644); err != nil {
				return err
			}
			if err := os.WriteFile(e.Cd+"/binary", []byte("text\n\xff\n"), 0o644); err != nil {
				return err
			}
			if err := os.WriteFile(e.Cd+"/tiny.yaml", []byte(tiny), 0o644); err != nil {
				return err
			}
			prepare := exec.Command(filepath.Join(bin, "koala-lm"), "prepare", "text.txt", "--out", "data", "--valid", "0.1", "--test", "0.1", "--quiet")
			prepare.Dir = e.Cd
			if out, err := prepare.CombinedOutput(); err != nil {
				return fmt.Errorf("prepare: %w\n%s", err, out)
			}
			return nil
		},
	})
}

// tiny is a model that learns the small language in a second.
const tiny = `
model: {layers: 1, embed: 16, hidden: 16, dropout: {input: 0, hidden: 0, output: 0}}
train: {batch: 4, bptt: 10, steps: 60}
eval: {every: 30}
`

// smallLanguage returns a text in which half of the words follow from the word
// before.
func smallLanguage(lines int) []byte {
	words := strings.Fields("the koala climbs a tree and eats its leaves then sleeps until noon when rain falls")
	var b strings.Builder
	state := uint64(1)
	at := 0
	for range lines {
		for range 8 {
			state = state*6364136223846793005 + 1442695040888963407
			if at++; state>>63 == 1 {
				at = int(state >> 33)
			}
			at %= len(words)
			b.WriteString(words[at] + " ")
		}
		b.WriteString("\n")
	}
	return []byte(b.String())
}
