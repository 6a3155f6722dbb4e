package checkpoint

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/koala-lm/koala-lm/lm"
)

var errKilled = errors.New("killed")

// killer ends training after a step and saves nothing.
type killer struct {
	lm.NoObserver
	at int64
}

func (k *killer) Stepped(s lm.Step) error {
	if s.Step == k.at {
		return errKilled
	}
	return nil
}

func runToError(trainer *lm.Trainer) error {
	err := trainer.Run(context.Background())
	if errors.Is(err, errKilled) {
		return errKilled
	}
	return err
}

func equal(a, b map[string][]float32) bool { return cmp.Equal(a, b) }

func names(t testing.TB, folder string) []string {
	t.Helper()
	var all []string
	for _, entry := range must[[]os.DirEntry](t)(os.ReadDir(folder)) {
		all = append(all, entry.Name())
	}
	slices.Sort(all)
	return all
}

// The last two are kept, and the best beside them under its link.
func TestKeepsLastAndBest(t *testing.T) {
	j := baseJob()
	j.checkpoint = 1
	folder := trained(t, j, 0)
	f := latest(t, folder)
	p := f.State.Progress
	if p.Step != 20 || p.Best == nil {
		t.Fatalf("the last checkpoint is of %+v", p)
	}
	want := []string{BestName, LastName, fileName(19), fileName(20)}
	if p.BestStep < 19 {
		want = append(want, fileName(p.BestStep))
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, names(t, folder)); diff != "" {
		t.Errorf("the folder (-want +got):\n%s", diff)
	}
	for link, step := range map[string]int64{LastName: 20, BestName: p.BestStep} {
		if target, err := os.Readlink(filepath.Join(folder, link)); err != nil || target != fileName(step) {
			t.Errorf("%s leads to %s, %v; want %s", link, target, err, fileName(step))
		}
	}
	best, damaged, err := Best(folder)
	if err != nil || damaged != nil || best.State.Progress.Step != p.BestStep {
		t.Errorf("the best: %v, %v, %v", best, damaged, err)
	}
	best.Close()
}

// Unfinished files and checkpoints of an abandoned continuation are removed; links
// that a killed process did not make are made.
func TestClearsUp(t *testing.T) {
	j := baseJob()
	j.checkpoint = 1
	folder := trained(t, j, 8)
	f := latest(t, folder)
	for _, name := range []string{LastName, BestName} {
		if err := os.Remove(filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"." + fileName(9) + ".partial-X", fileName(300)} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	k := newKeeper(t, folder, j, f)
	trainer := j.trainer(t, k)
	if err := f.Restore(trainer); err != nil {
		t.Fatal(err)
	}
	if target, err := os.Readlink(filepath.Join(folder, BestName)); err != nil || target != fileName(f.State.Progress.BestStep) {
		t.Errorf("the best is %s, %v", target, err)
	}
	run(t, trainer, 0)
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range names(t, folder) {
		if name == fileName(300) || strings.Contains(name, "partial") {
			t.Errorf("%s is left", name)
		}
	}
}

// A damaged checkpoint is named, and the previous one is used.
func TestFallsBack(t *testing.T) {
	j := baseJob()
	j.checkpoint = 1
	folder := trained(t, j, 8)
	newest := filepath.Join(folder, fileName(8))
	content := must[[]byte](t)(os.ReadFile(newest))
	content[len(content)-1] ^= 1
	if err := os.WriteFile(newest, content, 0o644); err != nil {
		t.Fatal(err)
	}
	f, damaged, err := Latest(folder)
	if err != nil || f.State.Progress.Step != 7 {
		t.Fatalf("%v, %v", f, err)
	}
	defer f.Close()
	if len(damaged) != 1 || !strings.Contains(damaged[0].Error(), newest) || !strings.Contains(damaged[0].Error(), "checksum") {
		t.Errorf("damaged: %v", damaged)
	}
	if err := os.Truncate(f.Path, 100); err != nil {
		t.Fatal(err)
	}
	for _, name := range names(t, folder) {
		if name != fileName(8) && name != fileName(7) {
			if err := os.Remove(filepath.Join(folder, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, _, err = Latest(folder)
	if err == nil || !strings.Contains(err.Error(), fileName(7)) || !strings.Contains(err.Error(), fileName(8)) {
		t.Errorf("none is whole: %v", err)
	}
}

func TestNoCheckpoint(t *testing.T) {
	for _, folder := range []string{t.TempDir(), filepath.Join(t.TempDir(), "absent")} {
		if _, _, err := Latest(folder); !errors.Is(err, ErrNone) {
			t.Errorf("got %v", err)
		}
	}
}

// inTheWay renames a folder to folder.gone and puts a file in its place.
func inTheWay(t *testing.T, folder string) {
	t.Helper()
	if err := os.Rename(folder, folder+".gone"); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(folder, nil, 0o644); err != nil {
		t.Error(err)
	}
}

// reporting returns a keeper that adds its failed writes to reported.
func reporting(t *testing.T, folder string, reported *[]error) *Keeper {
	t.Helper()
	return must[*Keeper](t)(NewKeeper(Config{Folder: folder, Keep: 2, Failed: func(err error) error {
		*reported = append(*reported, err)
		return nil
	}}, nil))
}

// A failed write is reported once, training continues, and the error at the end
// names the last saved step.
func TestWriteFails(t *testing.T) {
	j := baseJob()
	j.checkpoint = 4
	folder := filepath.Join(t.TempDir(), "checkpoints")
	var reported []error
	k := reporting(t, folder, &reported)
	at8 := &callback{at: 9, do: func() {
		if err := k.wait(); err != nil {
			t.Error(err)
		}
		inTheWay(t, folder)
	}}
	run(t, j.trainer(t, k, at8), 0)
	err := k.Close()
	if err == nil || !strings.Contains(err.Error(), "saved only up to step 8") {
		t.Errorf("the end: %v", err)
	}
	if len(reported) != 3 { // of steps 12, 16 and 20
		t.Errorf("reported: %v", reported)
	}
	if f := latest(t, folder+".gone"); f.State.Progress.Step != 8 {
		t.Errorf("the last is of step %d", f.State.Progress.Step)
	}
}

// If Failed returns an error, a failed write ends the run.
func TestWriteFailureEndsTheRun(t *testing.T) {
	j := baseJob()
	j.checkpoint = 4
	k := must[*Keeper](t)(NewKeeper(Config{
		Folder: filepath.Join(t.TempDir(), "checkpoints"), Keep: 1,
		Failed: func(err error) error { return err },
	}, nil))
	inTheWay(t, k.config.Folder)
	if err := j.trainer(t, k).Run(context.Background()); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("got %v", err)
	}
	_ = k.Close()
}

// A state whose copy does not fit in memory is a failed write.
func TestNoMemoryForCopy(t *testing.T) {
	defer func(size int64, f func(int) ([]byte, error)) { mapped, mapMemory = size, f }(mapped, mapMemory)
	usual := mapMemory
	mapped, mapMemory = 1, func(int) ([]byte, error) { return nil, syscall.ENOMEM }
	j := baseJob()
	j.checkpoint = 4
	folder := filepath.Join(t.TempDir(), "checkpoints")
	var reported []error
	k := reporting(t, folder, &reported)
	run(t, j.trainer(t, k, &callback{at: 9, do: func() { mapMemory = usual }}), 0)
	if err := k.Close(); err != nil {
		t.Error(err)
	}
	if len(reported) != 2 || !errors.Is(reported[0], syscall.ENOMEM) || !strings.Contains(reported[0].Error(), "no memory for a copy of the state") { // of steps 4 and 8
		t.Errorf("reported: %v", reported)
	}
	if f := latest(t, folder); f.State.Progress.Step != 20 {
		t.Errorf("the last checkpoint is of step %d", f.State.Progress.Step)
	}
}

// A folder that somebody removed is made again with the next checkpoint.
func TestRemovedFolder(t *testing.T) {
	j := baseJob()
	j.checkpoint = 4
	folder := filepath.Join(t.TempDir(), "checkpoints")
	k := must[*Keeper](t)(NewKeeper(Config{Folder: folder, Keep: 2, Failed: func(err error) error { return err }}, nil))
	at8 := &callback{at: 9, do: func() {
		if err := k.wait(); err != nil {
			t.Error(err)
		}
		if err := os.RemoveAll(folder); err != nil {
			t.Error(err)
		}
	}}
	run(t, j.trainer(t, k, at8), 0)
	if err := k.Close(); err != nil {
		t.Error(err)
	}
	if f := latest(t, folder); f.State.Progress.Step != 20 {
		t.Errorf("the last checkpoint is of step %d", f.State.Progress.Step)
	}
}

// callback does something after a step.
type callback struct {
	lm.NoObserver
	at int64
	do func()
}

func (c *callback) Stepped(s lm.Step) error {
	if s.Step == c.at {
		c.do()
	}
	return nil
}

func TestNothingLeaks(t *testing.T) {
	j := baseJob()
	j.checkpoint = 1
	trained(t, j, 0)
	t.Run("inner", func(t *testing.T) {
		before := live()
		t.Run("use", func(t *testing.T) {
			folder := trained(t, j, 5)
			f := latest(t, folder)
			trainer := j.trainer(t)
			if err := f.Restore(trainer); err != nil {
				t.Fatal(err)
			}
			run(t, trainer, 0)
		})
		if n := live() - before; n != 0 {
			t.Errorf("%d tensors are left", n)
		}
	})
}
