package corpus

import (
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"

	"go.yaml.in/yaml/v4"
)

//go:embed corpora.yaml
var builtinList []byte

// listed is an entry of the list of corpora.
type listed struct {
	About string       `yaml:"about"`
	Rows  string       `yaml:"rows"`
	Files []listedFile `yaml:"files"`
}

type listedFile struct {
	URL    string `yaml:"url"`
	Split  string `yaml:"split"`
	SHA256 string `yaml:"sha256"`
}

// name is the file's name: the last element of its address.
func (f listedFile) name() string {
	u, err := url.Parse(f.URL)
	if err != nil {
		return ""
	}
	return path.Base(u.Path)
}

// UserList returns the path of the user's file of additional corpora.
func UserList() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "koala-lm", "corpora.yaml"), nil
}

// loadList returns the built-in corpora and the user's own.
func loadList() (map[string]listed, error) {
	list, err := parseList(builtinList)
	if err != nil {
		return nil, fmt.Errorf("the list of corpora in this program: %w", err)
	}
	path, err := UserList()
	if err != nil {
		return list, nil // no home, so no list
	}
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return list, nil
	}
	if err != nil {
		return nil, err
	}
	added, err := parseList(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	maps.Copy(list, added)
	return list, nil
}

// goType matches the Go types in errors of the YAML library, which mean nothing
// to a user.
var goType = regexp.MustCompile(`( in type corpus\.\w+| into \[?\]?(map\[string\])?corpus\.\w+)|^yaml: construct errors: `)

func parseList(content []byte) (map[string]listed, error) {
	list := map[string]listed{}
	if err := yaml.Load(content, &list, yaml.WithKnownFields()); err != nil {
		return nil, fmt.Errorf("%s; an entry has about, rows and files, a file url, split and sha256", goType.ReplaceAllString(err.Error(), ""))
	}
	for _, name := range slices.Sorted(maps.Keys(list)) {
		if err := list[name].check(); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return list, nil
}

func (l listed) check() error {
	if l.Rows != "" && l.Rows != "documents" && l.Rows != "lines" {
		return fmt.Errorf("rows is %q, want documents or lines", l.Rows)
	}
	train := false
	for i, f := range l.Files {
		u, err := url.Parse(f.URL)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
			return fmt.Errorf("files %d: url is %q, want an http or https address", i+1, f.URL)
		}
		if name := f.name(); !filepath.IsLocal(name) || name == "." {
			return fmt.Errorf("files %d: url %q does not end in the name of a file", i+1, f.URL)
		}
		if !slices.Contains([]string{"train", "valid", "test"}, f.Split) {
			return fmt.Errorf("files %d: split is %q, want train, valid or test", i+1, f.Split)
		}
		train = train || f.Split == "train"
		if sum, err := hex.DecodeString(f.SHA256); err != nil || f.SHA256 != "" && len(sum) != 32 {
			return fmt.Errorf("files %d: sha256 is %q, want 64 hexadecimal digits", i+1, f.SHA256)
		}
	}
	if !train {
		return errors.New("there is no file of split train")
	}
	return nil
}
