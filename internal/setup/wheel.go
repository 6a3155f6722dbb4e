package main

import (
	"archive/zip"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/koala-lm/koala-lm/internal/checksum"
)

// A wheel is a pinned file of the Python package index. pip fetches it, with
// the mirrors, proxies and certificates of pip's configuration.
type wheel struct {
	name, version string
	platform      string // pip's --platform
	sha256        string // SHA-256 of the file
	keep          func(path string) bool
}

// fetchInto downloads, checks and unpacks w below dir. A broken or altered
// download is tried again, three times in all.
func (w wheel) fetchInto(ctx context.Context, c *cache, dir string) error {
	if _, err := command(ctx, "", nil, "python3", "-m", "pip", "--version"); err != nil {
		return fmt.Errorf("python3 with pip is needed to fetch %s: install it (apt-get install python3-pip): %w", w.name, err)
	}
	var last error
	for attempt := 1; attempt <= 3; attempt++ {
		if attempt > 1 {
			c.say("fetching %s again (%d of 3): %v", w.name, attempt, last)
		}
		if last = w.fetchOnce(ctx, dir); last == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if isDiskFull(last) {
			return last
		}
	}
	return fmt.Errorf("fetching %s %s failed three times: %w (check the network, set KOALA_LM_MIRROR to a folder with the wheels, or LIBTORCH to an installed libtorch 2.11)", w.name, w.version, last)
}

func (w wheel) fetchOnce(ctx context.Context, dir string) error {
	tmp, err := os.MkdirTemp(dir, "wheel-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	// pip's cache would keep a second copy of half a gigabyte.
	args := []string{"-m", "pip", "download", "--quiet", "--no-cache-dir", "--disable-pip-version-check",
		"--no-deps", "--only-binary=:all:", "--python-version", "3.11", "--implementation", "cp",
		"--platform", w.platform, "--dest", tmp}
	// A mirror is a folder with the wheels, or the address of a page that lists them.
	if mirror := os.Getenv("KOALA_LM_MIRROR"); mirror != "" {
		args = append(args, "--no-index", "--find-links", mirror)
	}
	if _, err := command(ctx, "", nil, "python3", append(args, w.name+"=="+w.version)...); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(tmp, "*.whl"))
	if err != nil {
		return err
	}
	if len(files) != 1 {
		return fmt.Errorf("pip left %d files where one was expected", len(files))
	}
	sum, err := checksum.SHA256(files[0])
	if err != nil {
		return err
	}
	if sum != w.sha256 {
		return fmt.Errorf("%s has SHA-256 %s, pinned is %s", filepath.Base(files[0]), sum, w.sha256)
	}
	return unzip(files[0], dir, w.keep)
}

// unzip extracts the regular files that keep accepts.
func unzip(path, dir string, keep func(string) bool) error {
	r, err := zip.OpenReader(path)
	if err != nil {
		return err
	}
	defer r.Close()
	for _, f := range r.File {
		if strings.HasSuffix(f.Name, "/") || !keep(f.Name) {
			continue
		}
		if !filepath.IsLocal(f.Name) {
			return fmt.Errorf("%s: unsafe name %q", filepath.Base(path), f.Name)
		}
		if err := extract(f, filepath.Join(dir, f.Name)); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return nil
}

func extract(f *zip.File, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	src, err := f.Open()
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err := io.Copy(dst, src); err != nil {
		dst.Close()
		return err
	}
	return dst.Close()
}
