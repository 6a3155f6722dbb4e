package corpus

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Find finds the files that paths name: files, folders, globs, and "-" for
// standard input. A folder with a train file in it keeps its splits and must
// be prepared alone; a file that was given by name is never a split.
func Find(paths []string, opts Options) (Plan, error) {
	var plan Plan
	for _, path := range paths {
		if path == "-" {
			plan.Loose = append(plan.Loose, &stdin{opts})
			continue
		}
		found, err := expand(path)
		if err != nil {
			return Plan{}, err
		}
		for _, path := range found {
			stat, err := os.Stat(path)
			if err != nil {
				return Plan{}, err
			}
			if !stat.IsDir() {
				if !stat.Mode().IsRegular() && stat.Mode()&(fs.ModeNamedPipe|fs.ModeCharDevice) == 0 {
					return Plan{}, fmt.Errorf("%s is not a file", path)
				}
				plan.Loose = append(plan.Loose, newFile(path, stat, opts))
				continue
			}
			splits, err := findSplits(path, opts)
			if err != nil {
				return Plan{}, err
			}
			if splits != nil {
				if len(paths) > 1 || len(found) > 1 {
					return Plan{}, fmt.Errorf("%s has splits of its own (a train file): prepare it alone", path)
				}
				return Plan{Splits: splits}, nil
			}
			files, err := walk(path, opts)
			if err != nil {
				return Plan{}, err
			}
			plan.Loose = append(plan.Loose, files...)
		}
	}
	return plan, nil
}

// expand returns the paths that a glob matches. A name that exists is itself,
// whatever characters are in it.
func expand(path string) ([]string, error) {
	if _, err := os.Lstat(path); err == nil {
		return []string{path}, nil
	} else if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) && !strings.ContainsAny(path, "*?[") {
		return nil, err
	}
	if !strings.ContainsAny(path, "*?[") {
		return nil, fmt.Errorf("%s: no such file or folder", path)
	}
	found, err := filepath.Glob(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s: no file matches", path)
	}
	slices.Sort(found)
	return found, nil
}

// walk finds the readable files in a folder and the folders in it, in the
// order of their paths. Hidden ones and those of other formats are passed over.
func walk(dir string, opts Options) ([]Source, error) {
	var files []Source
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if path != dir && strings.HasPrefix(entry.Name(), ".") {
			if entry.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if entry.IsDir() || !known(path) {
			return nil
		}
		stat, err := os.Stat(path)
		if err != nil {
			return err
		}
		if stat.Mode().IsRegular() {
			files = append(files, newFile(path, stat, opts))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s has no text in it: looked for %s", dir, readable)
	}
	return files, nil
}

// findSplits returns the files of each split if dir is in split layout, and
// nil if it is not.
func findSplits(dir string, opts Options) (map[string][]Source, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	splits := map[string][]Source{}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		split := splitOf(entry.Name())
		if split == "" || entry.IsDir() || strings.HasPrefix(entry.Name(), ".") || !known(path) {
			continue
		}
		stat, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		splits[split] = append(splits[split], newFile(path, stat, opts))
	}
	if splits["train"] == nil {
		return nil, nil
	}
	return splits, nil
}

// splitOf tells the split from the name of a file: train.txt,
// wiki.train.tokens, train-00000-of-00002.parquet.
func splitOf(name string) string {
	words := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return r == '.' || r == '-' || r == '_' })
	for _, word := range words {
		switch word {
		case "train":
			return "train"
		case "valid", "validation", "val", "dev":
			return "valid"
		case "test":
			return "test"
		}
	}
	return ""
}
