package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// libtorchVersion is the only version with which gotch's copy is compiled and
// tested.
const libtorchVersion = "2.11.0"

// wheels are libtorch and the libraries that it needs without CUDA. libtorch_cpu
// links two CUDA runtime libraries nevertheless, and its rpath finds them in
// ../../nvidia/cu13/lib. There is a torch wheel for each Python version and
// platform, but the unpacked parts, libraries and headers, are the same in all
// of them.
var wheels = []wheel{
	{
		name: "torch", version: libtorchVersion, platform: "manylinux_2_28_x86_64",
		sha256: "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a",
		keep: func(p string) bool {
			return strings.HasPrefix(p, "torch/include/") ||
				strings.HasPrefix(p, "torch/lib/lib") && !strings.Contains(p, "python") && strings.Count(p, "/") == 2
		},
	},
	{
		name: "nvidia-cuda-runtime", version: "13.0.96", platform: "manylinux2014_x86_64",
		sha256: "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
		keep:   func(p string) bool { return strings.HasSuffix(p, "/lib/libcudart.so.13") },
	},
	{
		name: "nvidia-cuda-cupti", version: "13.0.85", platform: "manylinux_2_25_x86_64",
		sha256: "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
		keep:   func(p string) bool { return strings.HasSuffix(p, "/lib/libcupti.so.13") },
	},
}

// fetchLibtorch returns the folder that holds lib and include.
func fetchLibtorch(ctx context.Context, c *cache) (string, error) {
	dir, err := c.entry("libtorch-"+libtorchVersion, 2<<30, func(tmp, _ string) error {
		for _, w := range wheels {
			c.say("fetching %s %s", w.name, w.version)
			if err := w.fetchInto(ctx, c, tmp); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return locateLibtorch(filepath.Join(dir, "torch"))
}

// locateLibtorch finds libtorch in dir and checks its version. dir is an
// unpacked libtorch, a PyTorch package folder (site-packages/torch), or a folder
// that contains one of these.
func locateLibtorch(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if !isDir(dir) {
		return "", errors.New("no such folder")
	}
	for _, sub := range []string{"", "torch", "libtorch"} {
		at := filepath.Join(dir, sub)
		if _, err := os.Stat(filepath.Join(at, "lib", "libtorch_cpu.so")); err != nil {
			continue
		}
		version, err := headerVersion(at)
		if err != nil {
			return "", err
		}
		if version != libtorchVersion {
			return "", fmt.Errorf("it is libtorch %s, %s is needed", version, libtorchVersion)
		}
		return filepath.EvalSymlinks(at)
	}
	return "", errors.New("lib/libtorch_cpu.so is not there: it should be an unpacked libtorch, or the torch folder of an installed PyTorch")
}

var versionDefine = regexp.MustCompile(`(?m)^#define TORCH_VERSION_(MAJOR|MINOR|PATCH) (\d+)`)

// headerVersion returns the version in the headers, with which the copy of gotch
// is compiled.
func headerVersion(dir string) (string, error) {
	for _, header := range []string{"torch/headeronly/version.h", "torch/csrc/api/include/torch/version.h"} {
		text, err := os.ReadFile(filepath.Join(dir, "include", header))
		if err != nil {
			continue
		}
		part := map[string]string{}
		for _, m := range versionDefine.FindAllStringSubmatch(string(text), -1) {
			part[m[1]] = m[2]
		}
		if len(part) == 3 {
			return part["MAJOR"] + "." + part["MINOR"] + "." + part["PATCH"], nil
		}
	}
	return "", fmt.Errorf("%s: the headers do not tell a version; libtorch %s is needed with its include folder", dir, libtorchVersion)
}
