package sweep

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/koala-lm/koala-lm/configs"
)

// maxTrials bounds the trials of a file, which a typing error can multiply.
const maxTrials = 10_000

// A Trial is one run of a sweep.
type Trial struct {
	ID       string   // hash of its settings and the dataset
	Search   string   // the name of its search, if it has one
	Label    string   // the varied settings: "optimizer.lr=5 train.seed=2"
	Set      []string // key=value over the sweep's configs
	Settings configs.Settings
}

// Trials lists the trials in the order of the file, the seeds innermost. dataset is
// the dataset's fingerprint. Equal trials are listed once. The error holds all problems
// with settings.
func (f *File) Trials(ctx context.Context, dataset string) ([]Trial, error) {
	if err := f.checkSize(); err != nil {
		return nil, err
	}
	l := list{file: f, dataset: dataset}
	for i := range f.searches {
		s := &f.searches[i]
		for _, p := range s.points() {
			for _, seeded := range p.seeded(s.seeds) {
				if err := ctx.Err(); err != nil {
					return nil, err
				}
				l.add(s, seeded)
			}
		}
	}
	if len(l.problems) > 0 {
		return nil, l.problems
	}
	return l.trials, nil
}

// Set gives every search a setting. The values of a grid and of random draws take
// precedence over it.
func (f *File) Set(assignment, where string) error {
	key, value, ok := strings.Cut(assignment, "=")
	if !ok {
		return Problems{fmt.Sprintf("%s: %q must be key=value, such as train.batch=40", where, assignment)}
	}
	for i := range f.searches {
		s := &f.searches[i]
		s.set = append(s.set, choice{key: strings.TrimSpace(key), values: []text{{value, where}}})
	}
	return nil
}

// list gathers trials and their problems, each once.
type list struct {
	file     *File
	dataset  string
	trials   []Trial
	problems Problems
	known    map[string]bool // ids of trials, and problems
}

func (l *list) add(s *search, p point) {
	trial, err := l.file.trial(p, l.dataset)
	trial.Search = s.name
	if l.known == nil {
		l.known = map[string]bool{}
	}
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			if !l.known[line] {
				l.known[line] = true
				l.problems = append(l.problems, line)
			}
		}
	} else if !l.known[trial.ID] {
		l.known[trial.ID] = true
		l.trials = append(l.trials, trial)
	}
}

// point is one combination of values.
type point struct {
	set    []string // key=value
	where  []string // the place of each
	varies []string
}

func (p point) with(key string, v text, varies bool) point {
	assignment := key + "=" + v.value
	next := point{extended(p.set, assignment), extended(p.where, v.where), p.varies}
	if varies {
		next.varies = extended(p.varies, assignment)
	}
	return next
}

// seeded returns the point with each of the seeds, or the point itself without
// seeds.
func (p point) seeded(seeds []text) []point {
	if len(seeds) == 0 {
		return []point{p}
	}
	return times([]point{p}, "train.seed", seeds, true)
}

// extended appends to a copy, since points share their first elements.
func extended(list []string, s string) []string { return append(list[:len(list):len(list)], s) }

// checkSize returns an error if the file has too many trials.
func (f *File) checkSize() error {
	total := 0
	for i := range f.searches {
		if total += f.searches[i].size(); total > maxTrials {
			return Problems{fmt.Sprintf("%s: more than %d trials", f.Path, maxTrials)}
		}
	}
	return nil
}

// size returns the number of a search's trials, at most one more than maxTrials.
func (s *search) size() int {
	count := min(max(1, len(s.seeds)+len(s.bestSeeds))*max(1, s.trials), maxTrials+1)
	for _, c := range s.grid {
		count = min(count*len(c.values), maxTrials+1)
	}
	return count
}

// points expands a search without its seeds.
func (s *search) points() []point {
	list := []point{{}}
	for _, c := range s.set {
		list[0] = list[0].with(c.key, c.values[0], false)
	}
	for _, c := range s.grid {
		list = times(list, c.key, c.values, len(c.values) > 1)
	}
	if s.random != nil {
		list = s.draw(list[0])
	}
	return list
}

// times combines every point with every value.
func times(points []point, key string, values []text, varies bool) []point {
	list := make([]point, 0, len(points)*len(values))
	for _, p := range points {
		for _, v := range values {
			list = append(list, p.with(key, v, varies))
		}
	}
	return list
}

// draw draws the random points. A point depends only on the seed and its number: a
// larger value of trials adds points and changes none.
func (s *search) draw(base point) []point {
	var list []point
	for i := range s.trials {
		r := rand.New(rand.NewPCG(s.seed, uint64(i)))
		p := base
		for _, c := range s.random {
			if c.within != nil {
				p = p.with(c.key, text{c.within.draw(r), c.where}, true)
			} else {
				p = p.with(c.key, c.values[r.IntN(len(c.values))], true)
			}
		}
		list = append(list, p)
	}
	return list
}

// draw draws a number with four digits: further digits do not matter in a search.
// For a setting of whole numbers it draws a whole number.
func (in *interval) draw(r *rand.Rand) string {
	v := 0.0
	switch in.kind {
	case "int":
		return strconv.FormatInt(int64(in.low)+r.Int64N(int64(in.high-in.low)+1), 10)
	case "log":
		v = math.Exp(math.Log(in.low) + r.Float64()*(math.Log(in.high)-math.Log(in.low)))
	default:
		v = in.low + r.Float64()*(in.high-in.low)
	}
	if in.whole {
		return strconv.FormatFloat(math.Round(v), 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

// trial resolves the settings of a point.
func (f *File) trial(p point, dataset string) (Trial, error) {
	var b configs.Builder
	if len(f.Configs) == 0 {
		b.Preset(configs.DefaultPreset)
	}
	for _, name := range f.Configs {
		b.Config(name)
	}
	for i, assignment := range p.set {
		b.Assign(assignment, p.where[i])
	}
	settings, err := b.Settings()
	if err != nil {
		return Trial{}, err
	}
	content, err := json.Marshal(settings)
	if err != nil {
		return Trial{}, err
	}
	sum := sha256.Sum256([]byte(dataset + "\n" + string(content)))
	return Trial{
		ID:    hex.EncodeToString(sum[:])[:12],
		Label: strings.Join(p.varies, " "),
		Set:   p.set, Settings: settings,
	}, nil
}
