package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
)

// nativeDir holds the C++ for libtorch's runtime, precisions and process groups, and the
// shared headers. sourceDirs are all folders of this project's C++, each next to the
// package that uses it: operators on libtorch's tensors that gotch does not bind, or that
// are faster as one pass.
const nativeDir = "internal/torch/native"

var sourceDirs = []string{nativeDir, "koala/native", "lm/native"}

// nativeFlags are g++'s flags. -fopenmp is only for compiling: the library links
// libtorch's libgomp, so that both share one thread pool. No flag changes the meaning of
// NaN and infinity.
var nativeFlags = []string{"-std=c++17", "-O3", "-g1", "-fPIC", "-fopenmp", "-fvisibility=hidden",
	"-fno-math-errno", "-fno-trapping-math", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-unknown-pragmas"}

// buildNative compiles the sources in sourceDirs into one shared library in the cache,
// named by its contents, and returns its folder. Object files are cached by content too:
// after a change only the changed files are compiled.
func buildNative(ctx context.Context, c *cache, root, torch string) (string, error) {
	dir := filepath.Join(root, nativeDir)
	patterns := []string{filepath.Join(dir, "gloo/*.h"), filepath.Join(dir, "gloo/*/*.h")}
	var files []string
	for _, d := range sourceDirs {
		patterns = append(patterns, filepath.Join(root, d, "*.h"))
		files = append(files, filepath.Join(root, d, "*.cpp"))
	}
	headers, err := readGlob(patterns...)
	if err != nil {
		return "", err
	}
	sources, err := readGlob(files...)
	if err != nil {
		return "", err
	}
	if len(sources) == 0 {
		return "", fmt.Errorf("%s: no C++ files in %s: is the checkout whole?", root, strings.Join(sourceDirs, ", "))
	}
	common := hash(libtorchVersion, torch, strings.Join(nativeFlags, " "), fmt.Sprint(headers))
	device, err := readGlob(filepath.Join(dir, "testdevice/*"))
	if err != nil {
		return "", err
	}
	nccl, includes := []sourceFile(nil), cudaIncludes(torch)
	if len(includes) > 0 {
		if nccl, err = readGlob(filepath.Join(root, ncclSource)); err != nil {
			return "", err
		}
	}
	return c.entry("native-"+hash(common, fmt.Sprint(sources), fmt.Sprint(device), fmt.Sprint(nccl)), 100<<20, func(tmp, _ string) error {
		objects, err := compileAll(ctx, c, sources, common, dir, torch)
		if err != nil {
			return err
		}
		if err := link(ctx, filepath.Join(tmp, "libkoala_native.so"), torch, objects, "-l:libgomp.so.1", "-ldl"); err != nil {
			return err
		}
		test, err := compile(ctx, c, device[0], hash(common, fmt.Sprint(device)), dir, torch)
		if err != nil {
			return err
		}
		if err := link(ctx, filepath.Join(tmp, "libkoala_test_device.so"), torch, []string{test}, "-l:libgomp.so.1"); err != nil || len(includes) == 0 {
			return err
		}
		c.say("compiling nccl.cpp")
		return compileNCCL(ctx, root, tmp, torch, includes)
	})
}

// link makes a shared library of object files and libtorch.
func link(ctx context.Context, library, torch string, objects []string, more ...string) error {
	lib := filepath.Join(torch, "lib")
	args := append([]string{"-shared", "-o", library}, objects...)
	args = append(args, "-L"+lib, "-ltorch_cpu", "-lc10")
	args = append(args, more...)
	args = append(args, "-Wl,-rpath,"+lib, "-Wl,-rpath,$ORIGIN", "-Wl,--enable-new-dtags", "-Wl,--no-undefined")
	_, err := command(ctx, "", nil, "g++", args...)
	return err
}

// compileAll returns the object files of sources, in their order. It runs one compiler for
// each processor at a time.
func compileAll(ctx context.Context, c *cache, sources []sourceFile, common, include, torch string) ([]string, error) {
	objects, errs := make([]string, len(sources)), make([]error, len(sources))
	running := make(chan struct{}, runtime.NumCPU())
	var wait sync.WaitGroup
	for i, src := range sources {
		wait.Go(func() {
			running <- struct{}{}
			defer func() { <-running }()
			objects[i], errs[i] = compile(ctx, c, src, common, include, torch)
		})
	}
	wait.Wait()
	return objects, errors.Join(errs...)
}

// compile returns the object file of src. common names everything else that it depends on.
func compile(ctx context.Context, c *cache, src sourceFile, common, include, torch string) (string, error) {
	dir, err := c.entry("object-"+hash(common, src.text), 50<<20, func(tmp, _ string) error {
		headers, err := precompile(ctx, c, torch)
		if err != nil {
			return err
		}
		c.say("compiling %s", filepath.Base(src.path))
		return compiler(ctx, torch, "-include", headers, "-I"+include, "-c", src.path, "-o", filepath.Join(tmp, "object.o"))
	})
	return filepath.Join(dir, "object.o"), err
}

// commonHeaders are the parts of libtorch that most sources include. Reading them takes
// ten times as long as a source, so they are compiled once.
const commonHeaders = `#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/custom_function.h>
`

// precompile returns the path of a header with commonHeaders, with its precompiled form
// next to it.
func precompile(ctx context.Context, c *cache, torch string) (string, error) {
	name := "headers-" + hash(libtorchVersion, torch, strings.Join(nativeFlags, " "), commonHeaders)
	dir, err := c.entry(name, 400<<20, func(tmp, _ string) error {
		c.say("compiling libtorch's headers")
		header := filepath.Join(tmp, "common.h")
		if err := os.WriteFile(header, []byte(commonHeaders), 0o644); err != nil {
			return err
		}
		return compiler(ctx, torch, "-x", "c++-header", header, "-o", header+".gch")
	})
	return filepath.Join(dir, "common.h"), err
}

// compiler runs g++ with libtorch's headers and nativeFlags.
func compiler(ctx context.Context, torch string, args ...string) error {
	all := append([]string{}, nativeFlags...)
	all = append(all, "-isystem", filepath.Join(torch, "include"), "-isystem", filepath.Join(torch, "include/torch/csrc/api/include"))
	_, err := command(ctx, "", nil, "g++", append(all, args...)...)
	return err
}

// writeLinkFile writes the cgo flags that link the Go package internal/torch with the
// library in native.
func writeLinkFile(root, native string) error {
	text := fmt.Sprintf(`// Generated by make setup; not for git.

package torch

// #cgo LDFLAGS: -L%s -lkoala_native -Wl,-rpath,%s -Wl,--enable-new-dtags
import "C"
`, native, native)
	return writeIfChanged(filepath.Join(root, "internal/torch/link_generated.go"), []byte(text))
}

type sourceFile struct{ path, text string }

func (s sourceFile) String() string { return filepath.Base(s.path) + "\n" + s.text }

func readGlob(patterns ...string) ([]sourceFile, error) {
	var paths []string
	for _, pattern := range patterns {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		paths = append(paths, found...)
	}
	var files []sourceFile
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		files = append(files, sourceFile{path, string(text)})
	}
	return files, nil
}

// hash returns a short name that depends on the texts.
func hash(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}
