package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const (
	gotchModule  = "github.com/sugarme/gotch"
	gotchVersion = "v0.9.1"
)

// compatHeader replaces operators that libtorch no longer has.
//
//go:embed compat.h
var compatHeader string

// prepareGotch returns a folder with gotch's Go packages, changed by gotchChanges and
// linked against libtorch in the folder torch. gotch's own cgo flags fit another libtorch.
// Its C++ takes a minute to compile, so the copy contains it as one shared library, which
// is made once for all checkouts.
func prepareGotch(ctx context.Context, c *cache, root, torch string) (string, error) {
	source, err := gotchSource(ctx, root)
	if err != nil {
		return "", err
	}
	return c.entry("gotch-"+gotchVersion+"-"+gotchKey(torch), 200<<20, func(tmp, _ string) error {
		c.say("preparing gotch %s: its C++ takes about a minute", gotchVersion)
		if err := copyGotch(tmp, source, torch); err != nil {
			return err
		}
		return compileGotch(ctx, filepath.Join(source, "libtch"), filepath.Join(tmp, "libtch", "lib"), torch)
	})
}

// gotchKey names a prepared copy by all of its inputs, so that checkouts with other changes
// or another libtorch get another copy.
func gotchKey(torch string) string {
	parts := []string{compatHeader, libGo(torch), libtorchVersion, strings.Join(compilerFlags, " ")}
	for _, ch := range gotchChanges {
		parts = append(parts, ch.old, ch.new)
	}
	return hash(parts...)
}

// gotchSource fetches the module with the go command, which checks it against go.sum, and
// returns its folder.
func gotchSource(ctx context.Context, root string) (string, error) {
	out, err := command(ctx, root, []string{"GOWORK=off", "GOFLAGS="}, "go", "mod", "download", "-json", gotchModule+"@"+gotchVersion)
	if err != nil {
		return "", fmt.Errorf("fetch gotch: %w", err)
	}
	var m struct{ Dir string }
	if err := json.Unmarshal(out, &m); err != nil || m.Dir == "" {
		return "", fmt.Errorf("fetch gotch: go mod download answered %q", out)
	}
	return m.Dir, nil
}

// copyGotch copies the Go files of the packages in use, and the headers they
// include, and applies gotchChanges.
func copyGotch(dst, src, torch string) error {
	for _, pattern := range []string{"go.mod", "LICENSE", "*.go", "half/*.go", "libtch/*.go", "libtch/*.h", "ts/*.go", "nn/*.go"} {
		files, err := filepath.Glob(filepath.Join(src, pattern))
		if err != nil {
			return err
		}
		for _, file := range files {
			rel, err := filepath.Rel(src, file)
			if err != nil {
				return err
			}
			if strings.HasSuffix(rel, "_test.go") || strings.HasSuffix(rel, ".cpp.h") {
				continue
			}
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			out := filepath.Join(dst, rel)
			if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(out, text, 0o644); err != nil {
				return err
			}
		}
	}
	for _, ch := range gotchChanges {
		if err := ch.apply(dst); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dst, "libtch", "lib.go"), []byte(libGo(torch)), 0o644)
}

// libGo returns the Go file that links gotch. libgomp is libtorch's own, so that kernels
// with OpenMP share its threads. torch_cuda is not linked: it is loaded when a CUDA device
// is requested.
func libGo(torch string) string {
	return `package libtch

// #cgo CFLAGS: -I${SRCDIR} -O2 -w
// #cgo LDFLAGS: -L${SRCDIR}/lib -lgotch -L` + torch + `/lib -ltorch_cpu -lc10 -l:libgomp.so.1 -lstdc++ -lm
// #cgo LDFLAGS: -Wl,-rpath,${SRCDIR}/lib -Wl,-rpath,` + torch + `/lib -Wl,--enable-new-dtags
import "C"
`
}

var compilerFlags = []string{"-std=c++17", "-O2", "-fPIC", "-shared", "-w"}

// compileGotch compiles gotch's C++ from its module folder into dir/libgotch.so.
func compileGotch(ctx context.Context, src, dir, torch string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	compat := filepath.Join(dir, "compat.h")
	if err := os.WriteFile(compat, []byte(compatHeader), 0o644); err != nil {
		return err
	}
	args := append([]string{}, compilerFlags...)
	args = append(args, "-include", compat, filepath.Join(src, "torch_api.cpp"), "-o", filepath.Join(dir, "libgotch.so"),
		"-I"+src, "-I"+filepath.Join(torch, "include"), "-I"+filepath.Join(torch, "include/torch/csrc/api/include"),
		"-L"+filepath.Join(torch, "lib"), "-ltorch_cpu", "-lc10",
		"-Wl,-rpath,"+filepath.Join(torch, "lib"), "-Wl,--enable-new-dtags", "-Wl,--no-undefined")
	_, err := command(ctx, "", nil, "g++", args...)
	return err
}
