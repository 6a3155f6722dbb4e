// Package sweep searches over settings: a [File] describes the search and expands
// into trials, and a [Runner] trains the trials that are not done yet.
//
// A trial's id is a hash of its resolved settings and of the dataset. A sweep that
// was killed therefore continues with the remaining trials, and an extended file
// runs only its new ones.
package sweep

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/koala-lm/koala-lm/configs"
	"github.com/koala-lm/koala-lm/internal/suggest"
	"github.com/koala-lm/koala-lm/metric"
	"github.com/koala-lm/koala-lm/tracking"
)

// File is a sweep's file.
type File struct {
	Path      string
	Name      string // of the sweep; by default the file's name without .yaml
	Data      string // dataset folder; a relative path is taken from the file's folder
	Configs   []string
	Metric    string        // decides which trial is better; default val_ppl
	Highest   bool          // the higher value of Metric is better
	TimeLimit time.Duration // no trial starts later; 0: no limit

	searches []search
}

// search is one set of trials: each point of a grid, or of random draws, or a single
// point, with each of the seeds; then the best point with further seeds.
type search struct {
	name      string
	set       []choice // one value each
	grid      []choice
	random    []choice
	trials    int    // random draws
	seed      uint64 // of the draws
	seeds     []text // of the runs
	bestSeeds []text
	stop      StopRule
}

// choice is a setting with the values to try, or an interval to draw from.
type choice struct {
	key    string
	values []text
	within *interval
	where  string // of the interval
}

// text is a value, as written after key= on a command line, and its place.
type text struct{ value, where string }

// Problems lists all errors of a file, one on each line.
type Problems []string

func (p Problems) Error() string { return strings.Join(p, "\n") }

// plainName matches the names of sweeps, which become a tag and a folder.
var plainName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$`)

// reader walks the nodes of a file and collects its problems.
type reader struct {
	path     string
	problems Problems
}

func (r *reader) add(n *yaml.Node, format string, args ...any) {
	r.problems = append(r.problems, r.place(n)+": "+fmt.Sprintf(format, args...))
}

// full reports that there are enough problems: a file with more is no sweep.
func (r *reader) full() bool { return len(r.problems) >= configs.MostProblems }

func (r *reader) place(n *yaml.Node) string {
	return fmt.Sprintf("%s:%d:%d", r.path, n.Line, n.Column)
}

// Read reads a sweep's file.
func Read(path string) (*File, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read sweep: %w", err)
	}
	return parse(path, content)
}

func parse(path string, content []byte) (*File, error) {
	loader, err := yaml.NewLoader(bytes.NewReader(content))
	if err != nil {
		return nil, Problems{fmt.Sprintf("%s: %v", path, err)}
	}
	var document, second yaml.Node
	var load *yaml.LoadError
	if err := loader.Load(&document); err == io.EOF {
		return nil, Problems{path + ": there is nothing in it"}
	} else if errors.As(err, &load) {
		return nil, Problems{fmt.Sprintf("%s:%d:%d: not YAML: %s", path, load.Mark.Line, load.Mark.Column, load.Message)}
	} else if err != nil {
		return nil, Problems{fmt.Sprintf("%s: not YAML: %v", path, err)}
	}
	r := &reader{path: path}
	if err := loader.Load(&second); err != io.EOF {
		r.add(&document, "more than one document: a sweep is one")
	}
	name := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	f := &File{Path: path, Name: name}
	r.file(f, document.Content[0])
	if !plainName.MatchString(f.Name) {
		r.problems = append(r.problems, fmt.Sprintf("%s: name %q must be of letters, digits, dots, - and _", path, f.Name))
	}
	if len(r.problems) > 0 {
		return nil, r.problems
	}
	return f, nil
}

// file reads the top level of a sweep: its own keys, and the keys of a search.
func (r *reader) file(f *File, n *yaml.Node) {
	top := search{trials: -1, seed: 1}
	var more *yaml.Node
	var highest *string
	r.mapping(n, "a sweep", map[string]func(*yaml.Node){
		"name":     func(n *yaml.Node) { f.Name = r.word(n, "name") },
		"data":     func(n *yaml.Node) { f.Data = r.word(n, "data") },
		"config":   func(n *yaml.Node) { f.Configs = r.words(n, "config") },
		"searches": func(n *yaml.Node) { more = n },
		"metric":   func(n *yaml.Node) { f.Metric = r.word(n, "metric") },
		"direction": func(n *yaml.Node) {
			direction := r.word(n, "direction")
			if direction != "min" && direction != "max" {
				r.add(n, "direction must be min or max, not %q", direction)
			}
			highest = &direction
		},
		"time_limit": func(n *yaml.Node) {
			limit, err := time.ParseDuration(n.Value)
			if err != nil || limit <= 0 {
				r.add(n, "time_limit must be a time such as 90m or 12h, not %q", n.Value)
			}
			f.TimeLimit = limit
		},
	}, r.searchKeys(&top))
	f.Metric = cmp.Or(f.Metric, metric.ValidPPL)
	f.Highest = tracking.HigherIsBetter(f.Metric)
	if highest != nil {
		f.Highest = *highest == "max"
	}
	f.resolvePaths()
	if more == nil {
		f.searches = []search{r.finish(top, n)}
		return
	}
	if top.grid != nil || top.random != nil || top.trials >= 0 {
		r.add(more, "beside searches, grid, random and trials belong into one of them")
	}
	if more.Kind != yaml.SequenceNode || len(more.Content) == 0 {
		r.add(more, "searches must be a list")
		return
	}
	names := map[string]bool{}
	for _, item := range more.Content {
		if r.full() {
			return
		}
		s := search{trials: -1, seed: top.seed, seeds: top.seeds, bestSeeds: top.bestSeeds, stop: top.stop, set: append([]choice(nil), top.set...)}
		r.mapping(item, "a search", r.searchKeys(&s), map[string]func(*yaml.Node){
			"name": func(n *yaml.Node) { s.name = r.word(n, "name") },
		})
		if s.name != "" && names[s.name] {
			r.add(item, "another search is called %q too", s.name)
		}
		names[s.name] = true
		f.searches = append(f.searches, r.finish(s, item))
	}
}

// resolvePaths resolves relative paths from the file's folder. A path that exists
// only in the working folder stays unchanged, and so does the name of a preset.
func (f *File) resolvePaths() {
	resolve := func(path string) string {
		beside := filepath.Join(filepath.Dir(f.Path), path)
		if path == "" || filepath.IsAbs(path) {
			return path
		}
		if _, err := os.Stat(beside); err != nil {
			return path
		}
		return beside
	}
	f.Data = resolve(f.Data)
	for i, name := range f.Configs {
		if strings.ContainsRune(name, '/') || filepath.Ext(name) != "" {
			f.Configs[i] = resolve(name)
		}
	}
}

// searchKeys maps a search's keys to their readers.
func (r *reader) searchKeys(s *search) map[string]func(*yaml.Node) {
	return map[string]func(*yaml.Node){
		"set":         func(n *yaml.Node) { s.set = append(s.set, r.choices(n, "set", r.single)...) },
		"grid":        func(n *yaml.Node) { s.grid = r.choices(n, "grid", r.list) },
		"random":      func(n *yaml.Node) { s.random = r.choices(n, "random", r.listOrInterval) },
		"trials":      func(n *yaml.Node) { s.trials = r.count(n, "trials") },
		"random_seed": func(n *yaml.Node) { s.seed = uint64(r.count(n, "random_seed")) },
		"seeds":       func(n *yaml.Node) { s.seeds = r.list("seeds", n).values },
		"best_seeds":  func(n *yaml.Node) { s.bestSeeds = r.list("best_seeds", n).values },
		"stop":        func(n *yaml.Node) { s.stop = r.stopRule(n) },
	}
}

// finish checks the keys of a search against each other.
func (r *reader) finish(s search, n *yaml.Node) search {
	switch {
	case s.random == nil && s.trials >= 0:
		r.add(n, "trials is the number of random draws, and there is no random")
	case s.random != nil && s.trials < 0:
		r.add(n, "random needs trials, the number of draws")
	case s.random != nil && s.grid != nil:
		r.add(n, "grid and random are two searches: list them under searches")
	}
	seen := map[string]bool{}
	for _, c := range append(append([]choice(nil), s.grid...), s.random...) {
		if seen[c.key] {
			r.add(n, "%s is there twice", c.key)
		}
		seen[c.key] = true
	}
	if seen["train.seed"] && (s.seeds != nil || s.bestSeeds != nil) {
		r.add(n, "seeds and train.seed are the same: give one")
	}
	return s
}

// mapping reads a mapping whose keys are known.
func (r *reader) mapping(n *yaml.Node, what string, readers ...map[string]func(*yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		r.add(n, "%s must be a mapping", what)
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content) && !r.full(); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		var read func(*yaml.Node)
		var names []string
		for _, m := range readers {
			for name := range m {
				names = append(names, name)
			}
			if m[key.Value] != nil {
				read = m[key.Value]
			}
		}
		switch {
		case seen[key.Value]:
			r.add(key, "%s is there twice", key.Value)
		case read == nil:
			hint := ""
			if near := suggest.Name(key.Value, names); near != "" {
				hint = ": did you mean " + near + "?"
			} else if strings.Contains(key.Value, ".") {
				hint = ": settings belong under set, grid or random"
			}
			r.add(key, "unknown key %q%s", key.Value, hint)
		default:
			read(value)
		}
		seen[key.Value] = true
	}
}
