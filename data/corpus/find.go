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

// Find finds the files that paths name: files, folders, globs, and "-" for standard
// input. A folder in split layout keeps its splits and must be prepared alone. A file
// that was given by name is never a split.
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
			if errors.Is(err, fs.ErrNotExist) { // expand has found it
				return Plan{}, fmt.Errorf("%s is a symbolic link to something that does not exist", path)
			}
			if err != nil {
				return Plan{}, err
			}
			if ending := strings.ToLower(filepath.Ext(path)); !stat.IsDir() && (ending == ".arrow" || ending == ".feather") {
				return Plan{}, fmt.Errorf("%s: Arrow files are not read: save the data as Parquet or JSON lines (to_parquet, to_json)", path)
			}
			if !stat.IsDir() {
				if stat.Mode()&fs.ModeDevice != 0 {
					return Plan{}, fmt.Errorf("%s is a device, not a text: want a file, a folder, or - for standard input", path)
				}
				if !stat.Mode().IsRegular() && stat.Mode()&fs.ModeNamedPipe == 0 {
					return Plan{}, fmt.Errorf("%s is not a file", path)
				}
				plan.Loose = append(plan.Loose, newFile(path, stat, opts))
				continue
			}
			files, err := walk(path, opts)
			if err != nil {
				return Plan{}, err
			}
			splits, err := splitLayout(path, files)
			if err != nil {
				return Plan{}, err
			}
			if splits != nil {
				if len(paths) > 1 || len(found) > 1 {
					return Plan{}, fmt.Errorf("%s has splits of its own (a train file): prepare it alone", path)
				}
				return Plan{Splits: splits}, nil
			}
			for _, f := range files {
				plan.Loose = append(plan.Loose, f)
			}
		}
	}
	return plan, nil
}

// expand returns the paths that a glob matches. An existing path is not a glob,
// whatever characters it has.
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

// walk finds the readable files below a folder, in the order of their paths. It skips
// hidden files, other formats and broken symbolic links. It follows symbolic links,
// but enters no folder twice.
func walk(dir string, opts Options) ([]*file, error) {
	var files []*file
	entered := map[string]bool{}
	var enter func(path string) error
	enter = func(path string) error {
		real, err := filepath.EvalSymlinks(path)
		if err != nil {
			return err
		}
		if entered[real] {
			return nil
		}
		entered[real] = true
		entries, err := os.ReadDir(path)
		if err != nil {
			return err
		}
		for _, entry := range entries {
			if strings.HasPrefix(entry.Name(), ".") {
				continue
			}
			inner := filepath.Join(path, entry.Name())
			stat, err := os.Stat(inner)
			if err != nil {
				if entry.Type()&fs.ModeSymlink != 0 && errors.Is(err, fs.ErrNotExist) {
					continue
				}
				return err
			}
			if stat.IsDir() {
				if err := enter(inner); err != nil {
					return err
				}
			} else if stat.Mode().IsRegular() && known(inner) {
				files = append(files, newFile(inner, stat, opts))
			}
		}
		return nil
	}
	if err := enter(dir); err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s has no text in it: looked for %s", dir, readable)
	}
	slices.SortStableFunc(files, func(a, b *file) int { return strings.Compare(a.path, b.path) })
	return files, nil
}

// splitLayout returns the files of each split if a folder is in split layout, and nil
// if it is not. A folder is in split layout if a file in it is named after train
// (train.txt, wiki.train.tokens), or if files below it belong to train and to another
// split by their own or their folders' names (data/train-0.parquet, train/a.txt).
func splitLayout(dir string, files []*file) (map[string][]Source, error) {
	here, deep := map[string][]Source{}, map[string][]Source{}
	var other, inSplit string
	for _, f := range files {
		relative, err := filepath.Rel(dir, f.path)
		if err != nil {
			return nil, err
		}
		folder, name := filepath.Split(relative)
		split := splitOf(name)
		if folder == "" && split != "" {
			here[split] = append(here[split], f)
		}
		for _, part := range strings.Split(filepath.Clean(folder), string(filepath.Separator)) {
			if of, ok := splitNames[strings.ToLower(part)]; ok && split == "" {
				split = of
			}
		}
		if split == "" {
			if !aboutData(name) {
				other = f.path
			}
			continue
		}
		inSplit = f.path
		deep[split] = append(deep[split], f)
	}
	if here["train"] != nil {
		return here, nil
	}
	if deep["train"] == nil || len(deep) == 1 {
		return nil, nil
	}
	if other != "" {
		return nil, fmt.Errorf("%s has files of splits (%s) and others (%s): prepare the files by name, or the folder of the splits alone", dir, inSplit, other)
	}
	return deep, nil
}

// aboutData reports whether a file describes a data set by its name, and has no text of it.
func aboutData(name string) bool {
	name = strings.ToLower(name)
	return strings.HasPrefix(name, "readme") || strings.HasPrefix(name, "license") || strings.HasPrefix(name, "dataset_info") ||
		name == "dataset_dict.json" || name == "state.json"
}

// splitNames are the words that name a split.
var splitNames = map[string]string{
	"train": "train", "training": "train", "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid", "test": "test",
}

// splitOf returns the split that a file's name contains: train.txt, wiki.train.tokens,
// train-00000-of-00002.parquet.
func splitOf(name string) string {
	words := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return r == '.' || r == '-' || r == '_' })
	for _, word := range words {
		if split := splitNames[word]; split != "" && word != "training" {
			return split
		}
	}
	return ""
}
