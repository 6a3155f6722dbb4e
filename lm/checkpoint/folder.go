package checkpoint

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/koala-lm/koala-lm/internal/atomicfile"
)

// Names of the links in a folder of checkpoints.
const (
	LastName = "last.safetensors"
	BestName = "best.safetensors"
)

func fileName(step int64) string { return fmt.Sprintf("step-%09d.safetensors", step) }

var filePattern = regexp.MustCompile(`^step-(\d{9,18})\.safetensors$`)

// saved is a checkpoint file in a folder.
type saved struct {
	step int64
	name string
}

// list returns the checkpoints of a folder, the newest first; none if the folder
// does not exist.
func list(folder string) ([]saved, error) {
	entries, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list checkpoints: %w", err)
	}
	var found []saved
	for _, entry := range entries {
		if m := filePattern.FindStringSubmatch(entry.Name()); m != nil {
			step, err := strconv.ParseInt(m[1], 10, 64)
			if err != nil {
				return nil, fmt.Errorf("list checkpoints: %w", err)
			}
			found = append(found, saved{step, entry.Name()})
		}
	}
	slices.SortFunc(found, func(a, b saved) int { return cmp.Compare(b.step, a.step) })
	return found, nil
}

// ErrNone means that a folder has no checkpoint at all.
var ErrNone = errors.New("there is no checkpoint")

// Latest opens the newest undamaged checkpoint of a folder. It also returns the
// newer, damaged ones. If all are damaged, the error names them.
func Latest(folder string) (*File, []*DamagedError, error) {
	found, err := list(folder)
	if err != nil {
		return nil, nil, err
	}
	var damaged []*DamagedError
	for _, s := range found {
		path := filepath.Join(folder, s.name)
		f, err := Open(path)
		var d *DamagedError
		var unreadable *fs.PathError // a dangling link, or another user's file
		switch {
		case err == nil:
			return f, damaged, nil
		case errors.As(err, &d):
			damaged = append(damaged, d)
		case errors.As(err, &unreadable):
			damaged = append(damaged, &DamagedError{path, unreadable.Err})
		default:
			return nil, damaged, err
		}
	}
	if len(damaged) == 0 {
		return nil, nil, fmt.Errorf("%w in %s", ErrNone, folder)
	}
	all := make([]string, len(damaged))
	for i, d := range damaged {
		all[i] = fmt.Sprintf("%s: %v", filepath.Base(d.Path), d.Reason)
	}
	return nil, damaged, fmt.Errorf("no checkpoint in %s is whole (%s)", folder, strings.Join(all, "; "))
}

// Best opens the best checkpoint of a folder, or the newest if none is marked as
// best or the best is damaged. It also returns the damaged ones that it skipped.
func Best(folder string) (*File, []*DamagedError, error) {
	latest, damaged, err := Latest(folder)
	if err != nil {
		return nil, damaged, err
	}
	p := latest.State.Progress
	if p.Best == nil || p.BestStep == p.Step {
		return latest, damaged, nil
	}
	best, err := Open(filepath.Join(folder, fileName(p.BestStep)))
	var d *DamagedError
	switch {
	case err == nil:
		return best, damaged, latest.Close()
	case errors.As(err, &d):
		return latest, append(damaged, d), nil
	case errors.Is(err, fs.ErrNotExist):
		return latest, damaged, nil
	}
	return nil, damaged, errors.Join(err, latest.Close())
}

// prune removes all checkpoints except the best and the newest keep up to the given
// step. Checkpoints beyond that step belong to an abandoned continuation: a run
// resumes from the newest undamaged checkpoint.
func prune(folder string, step int64, keep int, best int64) error {
	found, err := list(folder)
	if err != nil {
		return err
	}
	for _, s := range found {
		if s.step <= step && keep > 0 {
			keep--
			continue
		}
		if s.step == best {
			continue
		}
		if err := os.Remove(filepath.Join(folder, s.name)); err != nil {
			return err
		}
	}
	return nil
}

// link points one of the links at the checkpoint of a step. Links are a convenience
// for people: a file system without symbolic links has none.
func link(folder, name string, step int64) error {
	target := fileName(step)
	if now, err := os.Readlink(filepath.Join(folder, name)); err == nil && now == target {
		return nil
	}
	err := atomicfile.Symlink(target, filepath.Join(folder, name))
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	return err
}
