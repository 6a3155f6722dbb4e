package main

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/koala-lm/koala-lm/internal/checksum"
)

func testCache(t *testing.T) *cache {
	t.Helper()
	c, err := openCache(t.TempDir(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The counts of replacements fit only the version of gotch that go.mod pins.
func TestChangesFitGotch(t *testing.T) {
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	source, err := gotchSource(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := copyGotch(dir, source, "/libtorch"); err != nil {
		t.Fatal(err)
	}
	for _, ch := range gotchChanges {
		if ch.why == "" {
			t.Errorf("%q has no reason", ch.old)
		}
	}
}

func TestChangeRefusesAnotherCount(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.go"), "x x x")
	err := change{files: []string{"*.go"}, old: "x", new: "y", count: 2}.apply(dir)
	if err == nil || !strings.Contains(err.Error(), "3 times") || !strings.Contains(err.Error(), "expected 2") {
		t.Errorf("error %v", err)
	}
}

func TestEntryIsBuiltOnceByRacingSetUps(t *testing.T) {
	const racers = 8
	var said bytes.Buffer
	one := &cache{dir: t.TempDir(), w: &said}
	var built atomic.Int32
	var wg, started sync.WaitGroup
	started.Add(racers)
	for i := range racers {
		c := one // half of them are parts of one set-up, which does not wait for itself
		if i%2 == 1 {
			c = &cache{dir: one.dir, w: io.Discard}
		}
		wg.Go(func() {
			started.Done()
			dir, err := c.entry("thing", 1, func(tmp, final string) error {
				built.Add(1)
				started.Wait() // so that the others race
				return os.WriteFile(filepath.Join(tmp, "file"), []byte("whole"), 0o644)
			})
			if err != nil {
				t.Error(err)
				return
			}
			if text, _ := os.ReadFile(filepath.Join(dir, "file")); string(text) != "whole" {
				t.Errorf("found %q", text)
			}
		})
	}
	wg.Wait()
	if n := built.Load(); n != 1 {
		t.Errorf("built %d times", n)
	}
	if n := strings.Count(said.String(), "another set-up"); n > 1 {
		t.Errorf("one set-up waited for %d others: %s", n, &said)
	}
}

func TestFailedEntryLeavesNothing(t *testing.T) {
	c := testCache(t)
	// The leftovers of a killed set-up.
	if err := os.Mkdir(filepath.Join(c.dir, "thing.tmp-123"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := c.entry("thing", 1, func(tmp, _ string) error {
		write(t, filepath.Join(tmp, "half"), "x")
		return fmt.Errorf("write: %w", syscall.ENOSPC)
	})
	if err == nil || !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("error %v", err)
	}
	left, err := filepath.Glob(filepath.Join(c.dir, "thing*"))
	if err != nil || len(left) != 1 || filepath.Ext(left[0]) != ".lock" {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestEntryAsksForSpaceFirst(t *testing.T) {
	c := testCache(t)
	_, err := c.entry("huge", 1<<62, func(tmp, _ string) error { t.Error("it was built"); return nil })
	if err == nil || !strings.Contains(err.Error(), "are needed") {
		t.Errorf("error %v", err)
	}
}

func TestUnzipRefusesUnsafeNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bad.zip")
	zipFile(t, path, map[string]string{"../out": "x"})
	err := unzip(path, t.TempDir(), func(string) bool { return true })
	if err == nil || !strings.Contains(err.Error(), "unsafe name") {
		t.Errorf("error %v", err)
	}
}

// fakePip puts a python3 first in PATH that runs the given shell script; $DEST is
// pip's download folder, $CALLS counts the downloads, and $LINKS is the folder that pip
// is to use without an index if it is $OFFLINE.
func fakePip(t *testing.T, script string) (calls func() int) {
	t.Helper()
	bin, count := t.TempDir(), filepath.Join(t.TempDir(), "calls")
	text := "#!/bin/sh\n[ \"$3\" = --version ] && exit 0\nCALLS=" + count + "; echo x >>$CALLS\n" +
		"while [ $# -gt 0 ]; do [ \"$1\" = --dest ] && DEST=$2; [ \"$1\" = --find-links ] && LINKS=$2; [ \"$1\" = --no-index ] && OFFLINE=1; shift; done\n" + script
	if err := os.WriteFile(filepath.Join(bin, "python3"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	return func() int {
		text, _ := os.ReadFile(count)
		return strings.Count(string(text), "x")
	}
}

func TestFetchChecksAndTriesAgain(t *testing.T) {
	good := filepath.Join(t.TempDir(), "good.whl")
	zipFile(t, good, map[string]string{"pkg/lib/libx.so": "library", "pkg/other": "no"})
	sum, err := checksum.SHA256(good)
	if err != nil {
		t.Fatal(err)
	}
	w := wheel{name: "pkg", version: "1", platform: "any", sha256: sum, keep: func(p string) bool { return strings.HasSuffix(p, ".so") }}

	t.Run("a broken download, then a whole one", func(t *testing.T) {
		calls := fakePip(t, "[ $(wc -l <$CALLS) = 1 ] && echo broken >$DEST/pkg.whl || cp "+good+" $DEST/pkg.whl")
		dir := t.TempDir()
		if err := w.fetchInto(t.Context(), testCache(t), dir); err != nil {
			t.Fatal(err)
		}
		if n := calls(); n != 2 {
			t.Errorf("%d downloads", n)
		}
		if text, err := os.ReadFile(filepath.Join(dir, "pkg/lib/libx.so")); err != nil || string(text) != "library" {
			t.Errorf("unpacked %q %v", text, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "pkg/other")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a file that is not wanted was unpacked: %v", err)
		}
	})
	t.Run("from a mirror", func(t *testing.T) {
		t.Setenv("KOALA_LM_MIRROR", filepath.Dir(good))
		fakePip(t, "[ \"$OFFLINE\" ] && cp $LINKS/good.whl $DEST/pkg.whl")
		if err := w.fetchInto(t.Context(), testCache(t), t.TempDir()); err != nil {
			t.Error(err)
		}
	})
	t.Run("an altered file", func(t *testing.T) {
		calls := fakePip(t, "echo evil >$DEST/pkg.whl")
		err := w.fetchInto(t.Context(), testCache(t), t.TempDir())
		evil := sha256.Sum256([]byte("evil\n"))
		if err == nil || !strings.Contains(err.Error(), hex.EncodeToString(evil[:])) || !strings.Contains(err.Error(), sum) {
			t.Errorf("error %v does not name both sums", err)
		}
		if n := calls(); n != 3 {
			t.Errorf("%d downloads", n)
		}
	})
	t.Run("a full disk", func(t *testing.T) {
		calls := fakePip(t, "echo 'OSError: [Errno 28] No space left on device' >&2; exit 1")
		if err := w.fetchInto(t.Context(), testCache(t), t.TempDir()); !isDiskFull(err) {
			t.Errorf("error %v", err)
		}
		if n := calls(); n != 1 {
			t.Errorf("%d downloads: a full disk does not get better", n)
		}
	})
	t.Run("Ctrl-C", func(t *testing.T) {
		fakePip(t, "sleep 60")
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		started := time.Now()
		if err := w.fetchInto(ctx, testCache(t), t.TempDir()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		if took := time.Since(started); took > 10*time.Second {
			t.Errorf("it went on for %s", took)
		}
	})
}

func TestLocateLibtorch(t *testing.T) {
	make := func(version string) string {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "torch/lib/libtorch_cpu.so"), "")
		v := strings.Split(version, ".")
		write(t, filepath.Join(dir, "torch/include/torch/headeronly/version.h"),
			fmt.Sprintf("#define TORCH_VERSION_MAJOR %s\n#define TORCH_VERSION_MINOR %s\n#define TORCH_VERSION_PATCH %s\n", v[0], v[1], v[2]))
		return dir
	}
	dir := make(libtorchVersion)
	for _, at := range []string{dir, filepath.Join(dir, "torch")} {
		if got, err := locateLibtorch(at); err != nil || filepath.Base(got) != "torch" {
			t.Errorf("%s: %q %v", at, got, err)
		}
	}
	for at, want := range map[string]string{
		make("2.4.1"):         "it is libtorch 2.4.1, 2.11.0 is needed",
		t.TempDir():           "lib/libtorch_cpu.so is not there",
		"/proc/none/libtorch": "no such folder",
	} {
		if _, err := locateLibtorch(at); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", at, err, want)
		}
	}
}

func TestMissingToolsAreNamed(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if err := checkTools(); err == nil || !strings.Contains(err.Error(), "go not found") {
		t.Errorf("error %v", err)
	}
}

func TestGeneratedFilesChangeOnlyWhenTheyMust(t *testing.T) {
	path := filepath.Join(t.TempDir(), "go.work")
	if err := writeIfChanged(path, []byte("one")); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	if err := writeIfChanged(path, []byte("one")); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || !st.ModTime().Equal(old) {
		t.Errorf("a file with the same content was rewritten: %v %v", st.ModTime(), err)
	}
	if err := writeIfChanged(path, []byte("two")); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(path); string(text) != "two" {
		t.Errorf("it says %q", text)
	}
}

func TestLinkTree(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	write(t, filepath.Join(src, "nvidia/cudnn/lib/libcudnn.so.9"), "new")
	write(t, filepath.Join(src, "nvidia/cu13/lib/libcudart.so.13"), "new")
	write(t, filepath.Join(dst, "nvidia/cu13/lib/libcudart.so.13"), "there")
	for range 2 { // again is fine
		if err := linkTree(src, dst); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{"nvidia/cudnn/lib/libcudnn.so.9": "new", "nvidia/cu13/lib/libcudart.so.13": "there"} {
		if text, err := os.ReadFile(filepath.Join(dst, path)); err != nil || string(text) != want {
			t.Errorf("%s says %q, want %q (%v)", path, text, want, err)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func zipFile(t *testing.T, path string, files map[string]string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := zip.NewWriter(f)
	for name, text := range files {
		part, err := w.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := part.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
}
