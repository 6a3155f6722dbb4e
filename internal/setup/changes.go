package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A change is one textual replacement in the copy of gotch. count is the number
// of occurrences of old in the version that the changes were written for.
// Another number means another version, which is an error, so that no library
// is only partly changed.
type change struct {
	files []string // globs below the copy
	old   string
	new   string
	count int
	why   string
}

// gotchChanges, lib.go and compat.h are all differences between the copy and
// gotch. internal/torch has a test for each change.
var gotchChanges = []change{
	{
		files: []string{"ts/tensor.go"}, count: 1,
		old: "lots [1e5]byte", new: "lots [8]byte",
		why: "every tensor handle allocated and cleared 100 KB of Go memory to provoke the garbage collector: 57 us a call",
	},
	{
		files: []string{"ts/*.go"}, count: 2457,
		old: "(*lib.Ctensor)(unsafe.Pointer(C.malloc(0)))", new: "(*lib.Ctensor)(unsafe.Pointer(new([8]lib.Ctensor)))",
		why: "the slot that an operator writes its results to had no room for any and was never freed: 32 bytes lost a call, and four results overflow it",
	},
	{
		files: []string{"ts/tensor-generated.go"}, count: 260,
		old: "  ts.ctensor = *ptr\n", new: "  lib.AtFree(ts.ctensor)\n  ts.ctensor = *ptr\n",
		why: "in-place operators overwrote their handle without freeing it, so the storage was never freed",
	},
	{
		files: []string{"ts/tensor.go"}, count: 1,
		old: "\truntime.SetFinalizer(x, freeCTensor)\n", new: "",
		why: "without KeepAlive a finalizer can free a tensor during its last call; scopes free tensors instead, and what they miss is counted in ExistingTensors",
	},
	{
		files: []string{"ts/scalar.go"}, count: 1,
		old: "\truntime.SetFinalizer(x, freeCScalar)\n", new: "",
		why: "as for tensors",
	},
	{
		files: []string{"ts/scalar.go"}, count: 1,
		old: "\t// TODO. FIXME either remove or rewind for specific scenario\n\treturn nil\n", new: "\treturn freeCScalar(sc)\n",
		why: "Drop was an empty stub, so that without a finalizer no scalar could be freed",
	},
	{
		files: []string{"ts/scalar.go"}, count: 1,
		old: "\t\"runtime\"\n", new: "",
		why: "no longer used",
	},
	{
		files: []string{"init.go"}, count: 1,
		old: "\tif _, err := os.Stat(CachedDir); os.IsNotExist(err) {\n\t\tif err := os.MkdirAll(CachedDir, 0755); err != nil {\n\t\t\tlog.Fatal(err)\n\t\t}\n\t}\n", new: "",
		why: "importing gotch made a folder in the home and ended the process where it could not; nothing here uses that folder",
	},
	{
		files: []string{"init.go"}, count: 1,
		old: "\t\"log\"\n", new: "",
		why: "no longer used",
	},
}

// apply makes the replacement in every file below dir that the change names.
func (ch change) apply(dir string) error {
	found := 0
	for _, glob := range ch.files {
		files, err := filepath.Glob(filepath.Join(dir, glob))
		if err != nil {
			return err
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			n := strings.Count(string(text), ch.old)
			if n == 0 {
				continue
			}
			found += n
			if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(text), ch.old, ch.new)), 0o644); err != nil {
				return err
			}
		}
	}
	if found != ch.count {
		return fmt.Errorf("gotch %s: %q stands %d times in %s, expected %d: this is not the gotch that the changes were written for",
			gotchVersion, ch.old, found, strings.Join(ch.files, " "), ch.count)
	}
	return nil
}
