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

// A Kind is an optimizer: what it is called, what may be chosen, and its rule.
type Kind struct {
	Name  string // as optimizer.kind has it
	About string // one line, with its source
	Rank  int    // place in lists; the name decides between equal ones

	// Filter marks the Kalman filters over the loss: they read the measurement's
	// mean square, and Predict comes before each Update.
	Filter bool

	// DecoupledDecay says that weight decay shrinks the parameters apart from the
	// gradient. Such kinds decay matrices alone unless settings say otherwise.
	DecoupledDecay bool

	// Averages says that the kind keeps an average of the weights by a rule of its own.
	// The others may be given one (average.go).
	Averages bool

	// Hyper are the hyperparameters; register adds the ones that every kind has.
	Hyper []setting.Declaration

	// Published are the values of the kind's authors where they differ from the
	// defaults, which are what a study on language models found.
	Published setting.Values

	// Check finds values that do not fit together; nil if each stands alone.
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
		k.Hyper = append(k.Hyper, averageSettings()...)
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

// Complete returns the values with the kind's defaults for those that are missing,
// or an error that lists all that is wrong. get looks up what defaults depend on,
// such as model.family; nil gives the values of the kind's authors.
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
