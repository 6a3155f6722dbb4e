package prepare

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/data/corpus"
	"github.com/koala-lm/koala-lm/data/tokenizer"
)

// reading is how files are read. skipped is called for each bad record that is skipped.
func (o Options) reading(skipped func(string)) corpus.Options {
	from := corpus.Options{
		Field: o.Field, Format: o.Format, Encoding: o.Encoding, Stdin: o.Stdin,
		ReplaceInvalid: o.ReplaceInvalid, Progress: o.Progress.Add,
	}
	if o.Template != "" {
		from.Template, _ = corpus.ParseTemplate(o.Template) // Check has parsed it
	}
	if o.SkipBad {
		from.Skipped = skipped
		if skipped == nil {
			from.Skipped = func(string) {}
		}
	}
	return from
}

// find finds the sources that the options name.
func find(ctx context.Context, opts Options, skipped func(string)) (corpus.Plan, error) {
	from := opts.reading(skipped)
	var plan corpus.Plan
	var err error
	if len(opts.Mix) > 0 {
		for _, part := range opts.Mix {
			found, err := corpus.Find([]string{part.Path}, from)
			if err != nil {
				return plan, err
			}
			if found.Splits != nil {
				return plan, fmt.Errorf("--mix %s: the folder has splits of its own: name its train files", part.Path)
			}
			plan.Loose = append(plan.Loose, found.Loose...)
			plan.Parts = append(plan.Parts, len(plan.Loose))
		}
	} else if opts.Corpus != "" || len(opts.Paths) == 0 {
		kind, _ := tokenizer.FindKind(opts.Tokenizer)
		plan, err = corpus.Named(ctx, opts.Corpus, corpus.NamedOptions{
			Options: from, Seed: opts.Seed, Tokens: opts.Tokens, Apart: kind.Words,
			Sums: opts.Sums, Cache: opts.Cache, Stage: opts.Progress.Stage,
		})
	} else {
		plan, err = corpus.Find(opts.Paths, from)
	}
	if err != nil {
		return plan, err
	}
	if plan.Splits != nil && opts.SharesGiven && (opts.Valid.fraction() > 0 || opts.Test.fraction() > 0) {
		return plan, errors.New("the text has splits of its own, so --valid and --test cannot be fractions: 0 leaves a split out, a number of tokens shortens it")
	}
	for _, held := range []struct {
		name  string
		paths []string
	}{{"valid", opts.ValidFiles}, {"test", opts.TestFiles}} {
		if len(held.paths) == 0 {
			continue
		}
		if plan.Splits != nil {
			return plan, fmt.Errorf("%s has splits of its own: --%s-file has no place beside them", opts.Paths[0], held.name)
		}
		found, err := corpus.Find(held.paths, from)
		if err != nil {
			return plan, err
		}
		if found.Splits != nil {
			return plan, fmt.Errorf("--%s-file %s is a folder with splits of its own", held.name, held.paths[0])
		}
		if plan.Held == nil {
			plan.Held = map[string][]corpus.Source{}
		}
		plan.Held[held.name] = found.Loose
	}
	return plan, nil
}

// gather reads all sources into the spool and divides it into splits.
func gather(ctx context.Context, s *spool, plan corpus.Plan, opts Options, info *data.Info) (map[string][]extent, error) {
	groups := []struct {
		name    string
		sources []corpus.Source
	}{{"", plan.Loose}}
	for _, name := range data.SplitNames {
		groups = append(groups, struct {
			name    string
			sources []corpus.Source
		}{name, append(plan.Splits[name], plan.Held[name]...)})
	}
	total := int64(0)
	for _, group := range groups {
		for _, source := range group.sources {
			if size := source.Size(); size < 0 || total < 0 {
				total = -1
			} else {
				total += size
			}
		}
	}
	opts.Progress.Stage("read", total)
	splits := map[string][]extent{}
	var loose []extent
	var bounds []int // number of documents up to the end of each part of a mix
	for _, group := range groups {
		from := len(s.ends)
		for i, source := range group.sources {
			if group.name == "" && slices.Contains(plan.Parts, i) {
				bounds = append(bounds, len(s.ends))
			}
			read, err := source.Read(ctx, s)
			if err != nil {
				return nil, err
			}
			info.Sources = append(info.Sources, read)
		}
		if group.name == "" {
			for i := range s.ends {
				loose = append(loose, s.document(i))
			}
			bounds = append(bounds, len(s.ends))
			continue
		}
		if len(group.sources) > 0 && len(s.ends) == from {
			return nil, fmt.Errorf("there is no text in the %s files", group.name)
		}
		for i := from; i < len(s.ends); i++ {
			splits[group.name] = append(splits[group.name], s.document(i))
		}
	}
	if err := s.finish(); err != nil {
		return nil, err
	}
	if len(s.ends) == 0 {
		return nil, fmt.Errorf("there is no text in %s: nothing to prepare", opts.text())
	}
	info.Corpus = plan.Corpus
	if len(opts.Mix) > 0 {
		var err error
		if loose, err = mix(s, opts.Mix, bounds, opts.Seed); err != nil {
			return nil, err
		}
		info.Mix = map[string]float64{}
		for _, part := range opts.Mix {
			info.Mix[part.Path] = part.Weight
		}
	}
	if opts.Dedupe {
		d := &duplicates{s: s, seen: map[[16]byte]bool{}}
		for _, list := range []struct {
			name string
			of   *[]extent
		}{{"test", nil}, {"valid", nil}, {"train", nil}, {"", &loose}} {
			kept, err := splits[list.name], error(nil)
			if list.of != nil {
				kept = *list.of
			}
			if kept, err = d.drop(kept); err != nil {
				return nil, err
			}
			if list.of != nil {
				*list.of = kept
			} else if len(kept) > 0 {
				splits[list.name] = kept
			}
		}
		info.Dropped = d.count
	}
	if opts.Sample > 0 && opts.Sample < 1 {
		var err error
		if plan.Splits != nil {
			splits["train"], err = sample(s, splits["train"], opts.Sample, opts.Seed)
		} else {
			loose, err = sample(s, loose, opts.Sample, opts.Seed)
		}
		if err != nil {
			return nil, err
		}
	}
	return split(s, splits, loose, plan, opts, info)
}

// split divides the loose documents and adds them to the splits that the corpus
// came with.
func split(s *spool, splits map[string][]extent, loose []extent, plan corpus.Plan, opts Options, info *data.Info) (map[string][]extent, error) {
	if plan.Splits != nil {
		info.Split = data.SplitRule{By: "layout"}
		for name, share := range map[string]Share{"valid": opts.Valid, "test": opts.Test} {
			if share == 0 {
				delete(splits, name)
			}
		}
		return splits, nil
	}
	if len(loose) == 0 {
		return nil, errors.New("there is no text to train on")
	}
	valid, test := opts.Valid, opts.Test
	if plan.Held["valid"] != nil {
		valid = 0
	}
	if plan.Held["test"] != nil {
		test = 0
	}
	kind, _ := tokenizer.FindKind(opts.Tokenizer)
	divided, by, err := divide(s, loose, valid, test, opts.Seed, kind.Words)
	if err != nil {
		return nil, err
	}
	info.Split = data.SplitRule{By: by, Valid: float64(valid), Test: float64(test)}
	if by == "documents" {
		info.Split.Seed = opts.Seed
	}
	if by == "none" && plan.Held != nil {
		info.Split.By = "files"
	}
	for name, extents := range splits {
		divided[name] = extents
	}
	return divided, nil
}

// text names the text that is prepared.
func (o Options) text() string {
	switch len(o.Paths) {
	case 0:
		return "corpus " + o.Corpus
	case 1:
		return o.Paths[0]
	}
	return fmt.Sprintf("%s and %d other paths", o.Paths[0], len(o.Paths)-1)
}
