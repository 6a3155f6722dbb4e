package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/koala-lm/koala-lm/cmd/internal/exit"
	"github.com/koala-lm/koala-lm/configs"
	"github.com/koala-lm/koala-lm/lm/checkpoint"
	"github.com/koala-lm/koala-lm/lm/spec"
)

// mustGoOn checks that a run's files are intact and that, without the fault, the
// resumed run ends as an undisturbed one does. If lossy, metrics may be missing,
// but none may differ.
func (w *workshop) mustGoOn(s configs.Settings, want ended, lossy bool) {
	w.t.Helper()
	if run, ok := w.run(); ok {
		w.metrics(run.ID) // checks the store's integrity
		f, damaged, err := checkpoint.Latest(w.checkpoints(run.ID))
		if err != nil && !errors.Is(err, checkpoint.ErrNone) || len(damaged) > 0 {
			w.t.Errorf("the checkpoints: %v, %v", damaged, err)
		}
		if err == nil {
			f.Close()
		}
	}
	w.train(w.request(s, w.unfinished())).mustEnd(w.t, exit.OK)
	got := w.ended()
	if lossy {
		got.Metrics = append(got.Metrics, want.Metrics...)
		slices.Sort(got.Metrics)
		got.Metrics = slices.Compact(got.Metrics)
		slices.Sort(want.Metrics)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Errorf("(-without fault +with):\n%s", diff)
	}
}

// smallDisk mounts a file system of a few megabytes for a workshop's runs.
func (w *workshop) smallDisk(options string) {
	w.t.Helper()
	if err := os.MkdirAll(w.runs, 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", w.runs, "tmpfs", 0, options); err != nil {
		w.t.Skipf("mounting takes root: %v", err)
	}
	w.t.Cleanup(func() {
		if err := syscall.Unmount(w.runs, syscall.MNT_DETACH); err != nil {
			w.t.Error(err)
		}
	})
}

// When the disk fills up, training continues or stops as the settings say, and
// prints a line. Earlier checkpoints and metrics stay intact.
func TestFullDisk(t *testing.T) {
	for _, onError := range []string{spec.OnErrorContinue, spec.OnErrorStop} {
		t.Run(onError, func(t *testing.T) {
			s := long(t, "checkpoint.on_error="+onError)
			w, want := fresh(t)
			w.smallDisk("size=512k")
			p := w.train(w.request(s, ""))
			w.awaitCheckpoint()
			ballast := filepath.Join(w.runs, "ballast")
			if err := os.WriteFile(ballast, make([]byte, 512<<10), 0o644); !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("the disk does not fill up: %v", err)
			}
			p.mustEnd(t, exit.Failed)
			said := p.stderr.String()
			if !strings.Contains(said, "no space left on device") {
				t.Errorf("it said:\n%s", said)
			}
			if onError == spec.OnErrorContinue && !strings.Contains(said, "training continues") {
				t.Errorf("it said:\n%s", said)
			}
			run, _ := w.run()
			if stopped := run.Steps < int64(s.Train.Steps); stopped != (onError == spec.OnErrorStop) {
				t.Errorf("it trained to step %d", run.Steps)
			}
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
			// Where the store took no writes until the end, there is no place where
			// the last metrics could be.
			lossy := strings.Contains(p.stderr.String(), "finish run")
			w.mustGoOn(s, want, lossy)
		})
	}
}

// A disk that becomes read-only has the same effect as a full one.
func TestReadOnlyDisk(t *testing.T) {
	s := long(t)
	w, want := fresh(t)
	w.smallDisk("")
	p := w.train(w.request(s, ""))
	w.awaitCheckpoint()
	await(t, "a disk that is not busy with a checkpoint", func() bool {
		err := syscall.Mount("", w.runs, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, "")
		if err != nil && !errors.Is(err, syscall.EBUSY) {
			t.Fatal(err)
		}
		return err == nil
	})
	p.mustEnd(t, exit.Failed)
	if said := p.stderr.String(); !strings.Contains(said, "read-only file system") {
		t.Errorf("it said:\n%s", said)
	}
	if err := syscall.Mount("", w.runs, "", syscall.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	w.mustGoOn(s, want, false)
}

// A store that is deleted under a run is made again, with all of the run in it.
func TestDeletedStore(t *testing.T) {
	w, want := fresh(t)
	p := w.train(w.request(long(t), ""))
	w.awaitCheckpoint()
	found, err := filepath.Glob(w.store + "*")
	if err != nil || len(found) == 0 {
		t.Fatal(found, err)
	}
	for _, file := range found {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	p.mustEnd(t, exit.OK)
	if said := p.stderr.String(); strings.Count(said, "the store was deleted or replaced") != 1 {
		t.Errorf("it said:\n%s", said)
	}
	if diff := cmp.Diff(want, w.ended()); diff != "" {
		t.Errorf("(-left alone +with its store deleted):\n%s", diff)
	}
}

// If any system call that writes data to disk fails, sometimes or permanently, the
// previous checkpoint and the store stay intact. strace makes them fail: Go makes
// its own system calls, so a library in between would see only SQLite's.
func TestFailingCalls(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed")
	}
	s := long(t)
	type fault struct{ calls, errno, when string }
	faults := []fault{
		{"fsync,fdatasync", "ENOSPC", "2+3"},
		{"renameat", "EIO", "1+"},
		{"openat", "EMFILE", "3+"},
	}
	if *torture {
		faults = append(faults, []fault{
			{"symlinkat", "ENOSPC", "1+"},
			{"unlinkat", "EIO", "1+"},
			{"fsync,fdatasync", "EIO", "1+"},
			{"pwrite64", "EIO", "1+"}, // SQLite's writes
			{"pwrite64", "ENOSPC", "3+7"},
		}...)
	}
	for _, fault := range faults {
		t.Run(fmt.Sprint(fault), func(t *testing.T) {
			w, want := fresh(t)
			p := w.train(w.request(s, ""))
			w.awaitCheckpoint()
			inject := fmt.Sprintf("inject=%s:error=%s:when=%s", fault.calls, fault.errno, fault.when)
			trace := exec.Command(strace, "-f", "-qq", "-o", "/dev/null", "-e", inject, "-p", fmt.Sprint(p.Process.Pid))
			if err := trace.Start(); err != nil {
				t.Fatal(err)
			}
			if code := p.code(t); code != exit.OK && code != exit.Failed {
				t.Errorf("exit code %d; it said:\n%s", code, &p.stderr)
			}
			_ = trace.Wait() // it ends with what it traces
			t.Logf("exit code %d: %.300s", p.ProcessState.ExitCode(), &p.stderr)
			// Where the store took no writes until the end, there is no place where
			// the last metrics could be.
			lossy := strings.Contains(p.stderr.String(), "finish run")
			w.mustGoOn(s, want, lossy)
		})
	}
}

// If a run's folder is removed, the run makes it again with its next checkpoint.
func TestRunFolderRemoved(t *testing.T) {
	s := long(t)
	w, want := fresh(t)
	p := w.train(w.request(s, ""))
	w.awaitCheckpoint()
	run, _ := w.run()
	gone := filepath.Join(filepath.Dir(w.runs), "gone")
	if err := os.Rename(filepath.Join(w.runs, run.ID), gone); err != nil {
		t.Fatal(err)
	}
	p.mustEnd(t, exit.OK)
	if diff := cmp.Diff(want, w.ended()); diff != "" {
		t.Errorf("(-left alone +folder removed):\n%s", diff)
	}
}
