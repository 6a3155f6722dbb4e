package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// fetchCUDA fetches the libraries that libtorch_cuda needs, and the headers for
// compiling against it. It puts them next to the fetched libtorch in the folder
// torch, where its rpath looks for them.
func fetchCUDA(ctx context.Context, c *cache, torch string) error {
	dir, err := c.entry("cuda-and-headers-for-libtorch-"+libtorchVersion, 8<<30, func(tmp, _ string) error {
		for _, w := range cudaWheels {
			w.keep = isLibraryOrHeader
			c.say("fetching %s %s", w.name, w.version)
			if err := w.fetchInto(ctx, c, tmp); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	unlock, err := c.lock("libtorch-" + libtorchVersion)
	if err != nil {
		return err
	}
	defer unlock()
	return linkTree(dir, filepath.Dir(torch))
}

func isLibraryOrHeader(path string) bool {
	return strings.HasPrefix(path, "nvidia/") && (strings.Contains(filepath.Base(path), ".so") || strings.Contains(path, "/include/"))
}

// linkTree makes a symbolic link below dst to every file below src, at the same
// relative path. It does not change existing files.
func linkTree(src, dst string) error {
	return filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(src, path)
		if err != nil {
			return err
		}
		link := filepath.Join(dst, rel)
		if _, err := os.Lstat(link); err == nil {
			return nil
		}
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
			return err
		}
		if err := os.Symlink(path, link); err != nil {
			return fmt.Errorf("link the CUDA libraries: %w", err)
		}
		return nil
	})
}
