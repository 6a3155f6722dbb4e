package environment

import (
	"context"
	"os/exec"
	"strings"
	"time"
	"unicode/utf8"
)

// Git is the state of a checkout.
type Git struct {
	Commit string // "" outside a checkout
	Dirty  bool   // tracked files differ from the commit
	Diff   string // the differences, cut at MaxDiff
}

// MaxDiff bounds the recorded diff in bytes: a record is not a backup.
const MaxDiff = 256 << 10

// ReadGit describes the checkout that holds dir. Git gets at most two seconds: a run
// must not wait for a slow file system.
func ReadGit(dir string) Git {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	git := func(args ...string) (string, bool) {
		cmd := exec.CommandContext(ctx, "git", append([]string{"-C", dir, "--no-optional-locks"}, args...)...)
		cmd.WaitDelay = 100 * time.Millisecond
		out, err := cmd.Output()
		return string(out), err == nil
	}
	commit, ok := git("rev-parse", "--verify", "HEAD")
	if !ok {
		return Git{}
	}
	state := Git{Commit: strings.TrimSpace(commit)}
	diff, ok := git("diff", "--no-ext-diff", "--no-color", "HEAD")
	if ok {
		state.Dirty = diff != ""
		state.Diff = cut(diff, MaxDiff)
	}
	return state
}

// cut shortens text to at most limit bytes of whole characters and says so.
func cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit] + "\n[cut]\n"
}
