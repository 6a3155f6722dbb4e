package sweep

import (
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

// maxTrials bounds what a slip of the pen can ask for.
const maxTrials = 100_000

// A Trial is one run of a sweep.
type Trial struct {
	ID       string   // of its settings and the dataset
	Label    string   // what it varies: "optimizer.lr=5 train.seed=2"
	Set      []string // key=value over the sweep's configs
	Settings configs.Settings
}

// Trials lists the trials in the order of the file, the seeds innermost.
// dataset is the dataset's fingerprint. A trial that comes twice is listed
// once. All problems with settings are returned at once.
func (f *File) Trials(dataset string) ([]Trial, error) {
	var list []Trial
	var problems Problems
	told, known := map[string]bool{}, map[string]bool{}
	for i := range f.searches {
		points, err := f.searches[i].points()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Path, err)
		}
		for _, p := range points {
			trial, err := f.trial(p, dataset)
			if err != nil {
				for line := range strings.SplitSeq(err.Error(), "\n") {
					if !told[line] {
						told[line] = true
						problems = append(problems, line)
					}
				}
				continue
			}
			if !known[trial.ID] {
				known[trial.ID] = true
				list = append(list, trial)
			}
		}
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return list, nil
}

// point is one combination of values; what varies is labelled.
type point struct {
	set    []string // key=value
	where  []string // of each
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

// extended appends to a copy, as points share what they begin with.
func extended(list []string, s string) []string { return append(list[:len(list):len(list)], s) }

// points expands a search.
func (s *search) points() ([]point, error) {
	count := max(1, len(s.seeds)) * max(1, s.trials)
	for _, c := range s.grid {
		if count *= len(c.values); count > maxTrials {
			return nil, fmt.Errorf("a search of more than %d trials", maxTrials)
		}
	}
	if count > maxTrials {
		return nil, fmt.Errorf("a search of more than %d trials", maxTrials)
	}
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
	if len(s.seeds) > 0 {
		list = times(list, "train.seed", s.seeds, true)
	}
	return list, nil
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

// draw makes the random points. Each depends on the seed and on its number
// alone, so that raising trials adds points and changes none.
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

// draw takes a number, written with four digits: more mean nothing in a search.
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
