// Package configs resolves the settings of a training run: it combines embedded
// presets, files and flags into one validated value.
//
// It declares no setting. The packages that read the settings declare them (lm/spec
// and koala/spec); parsing, validation, JSON and the printed reference are derived
// from their declarations. A Builder combines sources:
//
//	var b configs.Builder
//	b.Preset("small")
//	b.File("mine.yaml")
//	b.Assign("optimizer.kind=sgd", "--set")
//	settings, err := b.Settings()
//
// err is a Problems: all errors, not just the first.
package configs

import (
	"cmp"
	"fmt"
	"slices"
	"sync"

	"github.com/koala-lm/koala-lm/internal/setting"
	"github.com/koala-lm/koala-lm/lm/spec"
)

// Settings determines, together with the data, the result of a training run. A
// setting that does not exist for the chosen kinds has its zero value.
type Settings struct {
	Model      spec.Model
	Optimizer  Optimizer
	Schedule   spec.Schedule
	Train      spec.Train
	Eval       spec.Eval
	Checkpoint spec.Checkpoint
}

// SequenceLength is the number of tokens in a training sequence.
func (s Settings) SequenceLength() int {
	if s.Model.KindOf().CarriesState {
		return s.Train.BPTT
	}
	return int(s.Model.Context)
}

// SettlePrecision returns the settings with the precision that train.precision auto takes on
// a processor with a dataset's vocabulary, and a line for people that says what and why.
// Another value stays, and has no such line.
func (s Settings) SettlePrecision(vocab int, on spec.Processor) (settled Settings, said string) {
	if s.Train.Precision != spec.AutoPrecision {
		return s, ""
	}
	m := s.Model
	m.Vocab = max(m.Vocab, int64(vocab))
	// A rank's share of the batch does not count: any number of ranks takes the same precision.
	precision, reason := m.ChoosePrecision(int64(s.Train.Batch)*int64(s.SequenceLength()), on)
	s.Train.Precision = precision
	return s, fmt.Sprintf("train.precision auto is %s here: %s", precision, reason)
}

// sectionNames lists the sections in the order of printing.
var sectionNames = []string{"model", "optimizer", "schedule", "train", "eval", "checkpoint"}

// list returns all settings bound to s, in the order of printing and of resolving
// defaults: a setting whose default depends on another comes after it.
func (s *Settings) list() []setting.Setting {
	list := slices.Concat(s.Model.Settings(), s.Optimizer.settings(), s.Schedule.Settings(), s.Train.Settings(),
		s.Eval.Settings(), s.Checkpoint.Settings())
	slices.SortStableFunc(list, func(a, b setting.Setting) int {
		return cmp.Compare(slices.Index(sectionNames, sectionOf(a.Key)), slices.Index(sectionNames, sectionOf(b.Key)))
	})
	return list
}

// declared returns every declaration in the order of list, and the index of each
// key.
var declared = sync.OnceValue(func() (d struct {
	list  []setting.Declaration
	index map[string]int
}) {
	var s Settings
	d.index = map[string]int{}
	for i, one := range s.list() {
		d.list = append(d.list, one.Declaration)
		d.index[one.Key] = i
	}
	return d
})

// declaration finds a setting by its key.
func declaration(key string) (setting.Declaration, bool) {
	i, ok := declared().index[key]
	if !ok {
		return setting.Declaration{}, false
	}
	return declared().list[i], true
}
