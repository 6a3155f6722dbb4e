package spec

import (
	"fmt"
	"slices"

	"github.com/koala-lm/koala-lm/internal/setting"
)

// The kinds of model in this package's table.
const (
	LSTM        = "lstm"
	GRU         = "gru"
	Transformer = "transformer"
)

// A Family is a class of models that share settings and defaults.
type Family string

// The families of these kinds. A setting without a default for a family has the
// recurrent models' default.
const (
	RecurrentFamily   Family = "recurrent"
	TransformerFamily Family = "transformer"
)

// FamilyKey is the key of the model's family in conditions.
const FamilyKey = "model.family"

// A Kind is an architecture.
type Kind struct {
	Name   string // value of model.kind
	About  string // one line
	Family Family

	// CarriesState is true if the model carries a state from token to token: a
	// training sequence has train.bptt tokens, and the next one starts from its last
	// state. Other kinds see model.context tokens.
	CarriesState bool

	// LowBody is true if train.precision bfloat16 makes all products on any CPU. Without it
	// those of the output layer count alone.
	LowBody bool

	// Check returns the errors of a shape beyond the ranges of its settings. It is
	// nil for a kind without such errors.
	Check func(m *Model) []setting.Problem

	// Tensors and Kept outline a model, see Model.Outline. They are nil for a kind whose
	// memory is not estimated.
	Tensors func(m *Model) []Tensor
	Kept    func(m *Model, p Pass) Kept
}

var kinds = []Kind{
	{Name: LSTM, About: "long short-term memory (Hochreiter & Schmidhuber 1997)", Family: RecurrentFamily, CarriesState: true,
		Tensors: recurrentTensors(4), Kept: recurrentKept(4, 2)},
	{Name: GRU, About: "gated recurrent unit (Cho et al. 2014)", Family: RecurrentFamily, CarriesState: true,
		Tensors: recurrentTensors(3), Kept: recurrentKept(3, 4)},
	{Name: Transformer, About: "decoder-only Transformer, GPT-2's form or LLaMA's (Vaswani et al. 2017)", Family: TransformerFamily, LowBody: true, Check: checkTransformer,
		Tensors: transformerTensors, Kept: transformerKept},
}

// Register adds a kind. Call it while the program is initialised: the declarations
// of settings depend on the registered kinds.
func Register(k Kind) {
	if _, err := LookupKind(k.Name); err == nil {
		panic("model kind " + k.Name + " is registered twice")
	}
	kinds = append(kinds, k)
}

// KindNames returns the names of all kinds, in the order of the table.
func KindNames() []string { return namesWhere(func(Kind) bool { return true }) }

// LookupKind returns the kind of that name.
func LookupKind(name string) (Kind, error) {
	for _, k := range kinds {
		if k.Name == name {
			return k, nil
		}
	}
	return Kind{}, fmt.Errorf("model.kind is %q: it must be %s", name, setting.OneOf(KindNames()))
}

func namesWhere(has func(Kind) bool) []string {
	var names []string
	for _, k := range kinds {
		if has(k) {
			names = append(names, k.Name)
		}
	}
	return names
}

// only returns the condition that the model's kind has a property.
func only(has func(Kind) bool) []setting.Condition {
	var values []any
	for _, name := range namesWhere(has) {
		values = append(values, name)
	}
	return []setting.Condition{setting.Is("model.kind", values...)}
}

func carrying() []setting.Condition { return only(func(k Kind) bool { return k.CarriesState }) }
func windowed() []setting.Condition { return only(func(k Kind) bool { return !k.CarriesState }) }
func recurrent() []setting.Condition {
	return only(func(k Kind) bool { return k.Family == RecurrentFamily })
}
func transformers() []setting.Condition {
	return only(func(k Kind) bool { return k.Family == TransformerFamily })
}

// transformerFamily is the condition for a default of Transformers.
var transformerFamily = setting.Is(FamilyKey, string(TransformerFamily))

// Families returns the families of all kinds, each once.
func Families() []Family {
	var list []Family
	for _, k := range kinds {
		if !slices.Contains(list, k.Family) {
			list = append(list, k.Family)
		}
	}
	return list
}
