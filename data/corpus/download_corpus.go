package corpus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/koala-lm/koala-lm/data"
)

// NamedOptions configure the generation or download of a named corpus.
type NamedOptions struct {
	Options
	Seed   uint64   // markov: seed of the source
	Tokens int64    // markov: length of the text; 0 is a million
	Apart  bool     // godoc: put spaces between words and punctuation, as in WikiText
	Sums   []string // SHA-256 of files that have none in the catalog
	Cache  string   // the folder of downloads; "" is CacheDir
	Stage  func(name string, total int64)
	client *Downloader // for tests
}

// Names returns the names of the built-in corpora, without the user's own.
func Names() []string {
	names := []string{"godoc", "markov"}
	if list, err := parseList(builtinList); err == nil {
		names = append(names, slices.Sorted(maps.Keys(list))...)
	}
	return names
}

// Named finds a corpus by its name; "" is godoc.
func Named(ctx context.Context, name string, opts NamedOptions) (Plan, error) {
	switch name {
	case "", "godoc":
		source, err := FindGodoc()
		if err != nil {
			return Plan{}, err
		}
		source.Apart, source.progress = opts.Apart, opts.Progress
		return Plan{
			Loose:  []Source{source},
			Corpus: &data.CorpusInfo{Name: "godoc", Version: source.Version},
		}, nil
	case "markov":
		source := NewMarkov(opts.Seed, opts.Tokens)
		source.progress = opts.Progress
		floor := source.Entropy()
		return Plan{
			Loose:  []Source{source},
			Corpus: &data.CorpusInfo{Name: "markov", Seed: opts.Seed, Floor: &floor},
		}, nil
	}
	list, err := loadList()
	if err != nil {
		return Plan{}, err
	}
	entry, ok := list[name]
	if !ok {
		known := append([]string{"godoc", "markov"}, slices.Sorted(maps.Keys(list))...)
		return Plan{}, fmt.Errorf("no corpus is called %q: there are %s", name, strings.Join(known, ", "))
	}
	return download(ctx, name, entry, opts)
}

// download fetches the files of an entry and plans its splits.
func download(ctx context.Context, name string, entry listed, opts NamedOptions) (Plan, error) {
	d := opts.client
	if d == nil {
		if opts.Cache == "" {
			var err error
			if opts.Cache, err = CacheDir(); err != nil {
				return Plan{}, err
			}
		}
		d = &Downloader{Dir: filepath.Join(opts.Cache, "corpora", name), Stage: opts.Stage, Progress: opts.Progress}
	}
	plan := Plan{Splits: map[string][]Source{}, Corpus: &data.CorpusInfo{Name: name}}
	var unverified []string
	for _, f := range entry.Files {
		path, sum, err := d.fetch(ctx, f.URL, f.SHA256, f.name())
		if err != nil {
			return Plan{}, fmt.Errorf("corpus %s: %w", name, err)
		}
		if f.SHA256 == "" && !slices.Contains(opts.Sums, sum) {
			unverified = append(unverified, fmt.Sprintf("--sha256 %s (%s)", sum, f.name()))
		}
		stat, err := os.Stat(path)
		if err != nil {
			return Plan{}, err
		}
		fetched := newFile(path, stat, opts.Options)
		fetched.name = f.URL
		var source Source = fetched
		if entry.Rows == "lines" {
			source = rows{source}
		}
		plan.Splits[f.Split] = append(plan.Splits[f.Split], source)
	}
	if len(unverified) > 0 {
		return Plan{}, fmt.Errorf("corpus %s: the catalog has no checksum for a downloaded file: compare it with the publisher's, then run again with %s", name, strings.Join(unverified, " "))
	}
	return plan, nil
}

// rows joins the records of a source, which are the lines of one text, into one
// document.
type rows struct{ Source }

func (r rows) Read(ctx context.Context, sink Sink) (data.SourceInfo, error) {
	joined := &joiner{sink: sink}
	info, err := r.Source.Read(ctx, joined)
	if err != nil || !joined.open {
		return info, err
	}
	return info, sink.End()
}

// joiner is a Sink that ends each document with a line end and passes all of
// them on as one document.
type joiner struct {
	sink  Sink
	open  bool
	ended bool // the record so far ends with a line end
}

func (j *joiner) Begin(place string) error {
	j.ended = false
	if j.open {
		return nil
	}
	j.open = true
	return j.sink.Begin(place)
}

func (j *joiner) Write(p []byte) (int, error) {
	if len(p) > 0 {
		j.ended = bytes.HasSuffix(p, []byte("\n"))
	}
	return j.sink.Write(p)
}

func (j *joiner) End() error {
	if j.ended {
		return nil
	}
	_, err := j.sink.Write([]byte("\n"))
	return err
}

// CacheDir is the folder of downloads: KOALA_LM_CACHE, or the user's cache.
func CacheDir() (string, error) {
	if dir := os.Getenv("KOALA_LM_CACHE"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", errors.New("no cache folder: set KOALA_LM_CACHE")
	}
	return filepath.Join(dir, "koala-lm"), nil
}
