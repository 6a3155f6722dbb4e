package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/koala-lm/koala-lm/cmd/internal/request"
	"github.com/koala-lm/koala-lm/cmd/internal/serial"
)

// TestMain makes `koala-lm` a command of the scripts in testdata/script, with
// an engine beside it that computes nothing: the test binary under other names.
func TestMain(m *testing.M) {
	if os.Getenv(serial.Variable) != "" {
		serial.Serve(8<<30, func(args []string, stderr io.Writer) int {
			return execute(context.Background(), &streams{In: strings.NewReader(""), Out: io.Discard, ErrOut: stderr, Width: 80}, args)
		})
	}
	testscript.Main(m, map[string]func(){"koala-lm": main, request.EngineName: fakeEngine})
}

func TestScripts(t *testing.T) {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			env.Setenv("ROOT", root)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exitcode": exitcode},
	})
}

// exitcode is `exitcode N COMMAND [ARG...]`: the command must exit with code N. The
// script's stdout and stderr then match its output.
func exitcode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exitcode N COMMAND [ARG...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%s: %v", strings.Join(args[1:], " "), err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("%s: exit code %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}

// The command must start fast and run without libtorch.
func TestNoLibtorch(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	for _, pkg := range strings.Fields(string(out)) {
		if strings.Contains(pkg, "sugarme/gotch") || strings.HasSuffix(pkg, "/internal/torch") {
			t.Errorf("koala-lm depends on %s", pkg)
		}
	}
}

func TestGotchVersion(t *testing.T) {
	mod, err := os.ReadFile(filepath.Join("..", "..", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`github.com/sugarme/gotch (v\S+)`).FindSubmatch(mod)
	if found == nil {
		t.Fatal("go.mod does not name gotch")
	}
	if got := string(found[1]); got != gotchVersion {
		t.Errorf("go.mod has gotch %s, `koala-lm version` says %s", got, gotchVersion)
	}
}

// Every command has a short description, and examples if it can run. Its flags name what
// they take in the user's words, not by the type that Go has for it.
func TestEveryCommandHasHelp(t *testing.T) {
	a := &app{io: &streams{}}
	var check func(*cobra.Command)
	check = func(cmd *cobra.Command) {
		if cmd.Short == "" {
			t.Errorf("%s: no short description", cmd.CommandPath())
		}
		if cmd.HasParent() && cmd.Runnable() && cmd.Example == "" {
			t.Errorf("%s: no example", cmd.CommandPath())
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if wants, _ := pflag.UnquoteUsage(f); strings.HasPrefix(wants, "string") {
				t.Errorf("%s --%s takes a %q", cmd.CommandPath(), f.Name, wants)
			}
		})
		for _, sub := range cmd.Commands() {
			check(sub)
		}
	}
	check(newRootCmd(a))
}
