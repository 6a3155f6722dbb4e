package environment

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseStartTime(t *testing.T) {
	after := " S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 1000 1"
	tests := map[string]struct {
		stat string
		want int64
		ok   bool
	}{
		"plain":           {"17 (sh)" + after, 4711, true},
		"odd name":        {"17 (a) S (b c)" + after, 4711, true},
		"zombie":          {"17 (sh)" + strings.Replace(after, " S ", " Z ", 1), 0, false},
		"cut":             {"17 (sh) S 1 1", 0, false},
		"empty":           {"", 0, false},
		"not a number":    {"17 (sh)" + strings.Replace(after, "4711", "x", 1), 0, false},
		"no parenthesis":  {"17 sh" + after, 0, false},
		"newline in name": {"17 (a\nb)" + after, 4711, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := parseStartTime([]byte(test.stat))
			if got != test.want || (err == nil) != test.ok {
				t.Errorf("%d, %v; want %d, ok %v", got, err, test.want, test.ok)
			}
		})
	}
}

func TestLook(t *testing.T) {
	observer := NewObserver()
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	living := Self()
	living.PID = child.Process.Pid
	living.Start, _ = startTime(living.PID)
	change := func(f func(*Process)) Process {
		p := living
		f(&p)
		return p
	}
	tests := map[string]struct {
		process Process
		want    Verdict
	}{
		"self":              {Self(), Alive},
		"child":             {living, Alive},
		"reused id":         {change(func(p *Process) { p.Start++ }), Gone},
		"no such process":   {change(func(p *Process) { p.PID = 1 << 30 }), Gone},
		"before the reboot": {change(func(p *Process) { p.Boot = "earlier" }), Gone},
		"another host":      {change(func(p *Process) { p.Host += "2" }), Unknown},
		"another container": {change(func(p *Process) { p.Namespace = "pid:[1]" }), Unknown},
		"nothing known":     {Process{Host: living.Host}, Unknown},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := observer.Look(test.process); got != test.want {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	child.Wait()
	if got := observer.Look(living); got != Gone {
		t.Errorf("after kill: %v", got)
	}
}

func TestReadGit(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	folder := t.TempDir()
	if got := ReadGit(folder); got != (Git{}) {
		t.Errorf("outside a checkout: %+v", got)
	}
	git := func(args ...string) {
		t.Helper()
		args = append([]string{"-C", folder, "-c", "user.name=t", "-c", "user.email=t@t"}, args...)
		if out, err := exec.Command("git", args...).CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	file := filepath.Join(folder, "file")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	git("init", "-q")
	write("one\n")
	git("add", ".")
	git("commit", "-q", "-m", "first")
	clean := ReadGit(folder)
	if len(clean.Commit) < 40 || clean.Dirty || clean.Diff != "" {
		t.Errorf("clean: %+v", clean)
	}
	write("two\n")
	dirty := ReadGit(folder)
	if !dirty.Dirty || !strings.Contains(dirty.Diff, "+two") {
		t.Errorf("dirty: %+v", dirty)
	}
	write(strings.Repeat("ключ\n", MaxDiff))
	if got := len(ReadGit(folder).Diff); got > MaxDiff+10 {
		t.Errorf("a diff of %d bytes was kept", got)
	}
}
