package spec

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/koala-lm/koala-lm/internal/setting"
)

// A Kind is an optimizer: its name, its hyperparameters and its rule.
type Kind struct {
	Name  string // value of optimizer.kind
	About string // one line, with its source
	Rank  int    // place in lists; the name decides between equal ones

	// Filter marks the Kalman filters over the loss: they read the measurement's
	// mean square, and Predict comes before each Update.
	Filter bool

	// Moves is true if Predict moves the parameters.
	Moves bool

	// DecoupledDecay is true if weight decay shrinks the parameters apart from the
	// gradient. Such kinds decay matrices alone unless settings say otherwise.
	DecoupledDecay bool

	// Averaged is true if the weights are averaged under a constant rate, unless a
	// setting says otherwise.
	Averaged bool
	// Averages is true if the kind has its own rule for an average of the weights.
	// Other kinds can get one (average.go).
	Averages bool

	// Temporary returns the largest number of elements that a step holds at a time while
	// it moves p on the CPU. It is nil for a kind whose kernels hold none.
	Temporary func(v setting.Values, p *Param) int64

	// Hyper lists the hyperparameters; register adds the common ones of all kinds.
	Hyper []setting.Declaration

	// Published holds the authors' values that differ from the defaults. The
	// defaults come from a study on language models.
	Published setting.Values

	// Check returns an error for values that do not fit together. It is nil if all
	// combinations are valid.
	Check func(v setting.Values) []setting.Problem

	// New returns the rule for complete values.
	New func(v setting.Values) Rule
}

// String is the kind's name.
func (k *Kind) String() string { return k.Name }

var kinds []*Kind

// register adds a kind to the list. A kind's file calls it once.
func register(k Kind) *Kind {
	k.Hyper = slices.Concat(k.Hyper, groupSettings(k.DecoupledDecay))
	if !k.Averages {
		k.Hyper = append(k.Hyper, averageSettings(k.Averaged)...)
		rule := k.New
		k.New = func(v setting.Values) Rule { return withAverage(rule(v), v) }
	}
	for i := range k.Hyper {
		if d := &k.Hyper[i]; d.Key == "weight_decay" && k.DecoupledDecay {
			d.Meaning += ", apart from the gradient"
		}
	}
	kinds = append(kinds, &k)
	slices.SortStableFunc(kinds, func(a, b *Kind) int {
		return cmp.Or(cmp.Compare(a.Rank, b.Rank), strings.Compare(a.Name, b.Name))
	})
	return &k
}

// Kinds returns all kinds in a fixed order.
func Kinds() []*Kind { return slices.Clone(kinds) }

// Names returns the names of all kinds in the same order.
func Names() []string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = k.Name
	}
	return names
}

// Lookup returns the kind of that name.
func Lookup(name string) (*Kind, error) {
	for _, k := range kinds {
		if k.Name == name {
			return k, nil
		}
	}
	return nil, fmt.Errorf("optimizer %q: expected one of %s", name, strings.Join(Names(), ", "))
}

// Has reports whether the kind has a hyperparameter of that key.
func (k *Kind) Has(key string) bool {
	return slices.ContainsFunc(k.Hyper, func(d setting.Declaration) bool { return d.Key == key })
}

// Complete returns the values, with the kind's defaults for missing ones, or an
// error that lists everything that is wrong. get looks up the settings on which
// defaults depend, such as model.family; with a nil get the defaults are the
// authors' values.
func (k *Kind) Complete(v setting.Values, get setting.Lookup) (setting.Values, error) {
	if get == nil {
		get = func(string) any { return nil }
		given := v
		v = maps.Clone(k.Published)
		if v == nil {
			v = setting.Values{}
		}
		maps.Copy(v, given)
	}
	full, problems := v.Complete(k.Hyper, get)
	if len(problems) == 0 && k.Check != nil {
		problems = k.Check(full)
	}
	var errs []string
	for _, p := range problems {
		errs = append(errs, p.Error())
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("optimizer %s: %w", k.Name, errors.New(strings.Join(errs, "; ")))
	}
	return full, nil
}
