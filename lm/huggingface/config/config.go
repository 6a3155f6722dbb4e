// Package config translates between the config.json of transformers and the shape of
// a model, package spec's. It does not depend on libtorch.
//
// A model_type is a line in a table (families.go): its class, the values of absent
// fields, and how its fields are read and written. Parse refuses a model that
// package lm cannot compute, by the field's name and its value, before anything is
// built.
package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/koala-lm/koala-lm/internal/setting"
	"github.com/koala-lm/koala-lm/lm/spec"
)

// A Model is what a config.json describes.
type Model struct {
	Shape spec.Model // without dropout
	EOS   []int64    // ids of tokens that end a text

	family *family
}

// Parse reads a config.json of transformers 4 or 5. The error names each field that
// package lm cannot compute.
func Parse(content []byte) (Model, error) {
	f, err := newFields(content)
	if err != nil {
		return Model{}, err
	}
	of := find(f.word("model_type"))
	if of == nil {
		return Model{}, fmt.Errorf("model_type is %s: it must be %s", text(f.get("model_type")), names())
	}
	f.defaults = of.defaults
	f.rename(of.aliases)
	m := Model{family: of, EOS: f.ids("eos_token_id")}
	m.Shape = spec.Model{Kind: spec.Transformer, Vocab: f.size("vocab_size"), Tied: f.truth("tie_word_embeddings"), Softmax: spec.Full}
	of.read(f, &m.Shape)
	f.integer("bos_token_id")
	f.integer("pad_token_id")
	if f.has("quantization_config") {
		f.bad("quantization_config", "which is not supported")
	}
	if err := f.err(); err != nil {
		return Model{}, err
	}
	if err := m.Shape.Check(); err != nil {
		return Model{}, fmt.Errorf("this model cannot be computed here: %w", err)
	}
	m.Shape = normal(m.Shape)
	return m, nil
}

// Family is the model_type.
func (m Model) Family() string { return m.family.name }

// Source returns the place of a parameter of package lm in the family's files.
func (m Model) Source(param string) Source { return m.family.source(param) }

// Describe returns the config.json of a model of transformers with the same logits.
// If there is none, the error says why.
func Describe(shape spec.Model) (fields map[string]any, m Model, err error) {
	kind := shape.KindOf()
	if kind.Family != spec.TransformerFamily {
		return nil, Model{}, fmt.Errorf("transformers has no model of kind %s: export it with --to safetensors", shape.Kind)
	}
	want := normal(shape)
	var nearest []string // settings in which the nearest family differs
	for _, of := range families {
		fields := of.write(&shape, shape.Architecture.Resolved(&shape))
		if fields == nil {
			continue
		}
		fields["model_type"], fields["architectures"] = of.name, []string{of.class}
		fields["vocab_size"], fields["tie_word_embeddings"], fields["torch_dtype"] = shape.Vocab, shape.Tied, "float32"
		// Write a folder only if reading it gives the same model.
		content, err := json.Marshal(fields)
		if err != nil {
			return nil, Model{}, err
		}
		m, err := Parse(content)
		if err == nil && reflect.DeepEqual(m.Shape, want) {
			return fields, m, nil
		}
		differs := []string{fmt.Sprint(err)}
		if err == nil {
			differs = differences(m.Shape, want, of.name+"'s")
		}
		if nearest == nil || len(differs) < len(nearest) {
			nearest = differs
		}
	}
	if nearest == nil {
		nearest = []string{fmt.Sprintf("model.norm %s, position %s and mlp %s do not go together", want.Norm, want.Position, want.MLP)}
	}
	return nil, Model{}, fmt.Errorf("transformers has no such model (%s): export it with --to safetensors", strings.Join(nearest, "; "))
}

// normal returns the canonical shape of a model: defaults are filled in, and fields
// without effect have their zero value.
func normal(m spec.Model) spec.Model {
	m.Dropout = spec.Dropout{}
	if m.Softmax == "" {
		m.Softmax = spec.Full
	}
	if m.Softmax == spec.Full {
		m.Cutoffs = nil
	}
	a := m.Architecture.Resolved(&m)
	r := &a.Rotary
	if m.Position != spec.Rotary {
		*r = spec.Rotations{}
	}
	if r.Scaling == spec.NoScaling {
		r.Factor, r.Original = 0, 0
	}
	if r.Scaling == spec.LinearScaling {
		r.Original = 0
	}
	if r.Scaling != spec.Llama3Scaling {
		r.Low, r.High = 0, 0
	}
	if r.Scaling != spec.YarnScaling {
		r.Fast, r.Slow, r.Exact, r.Gain = 0, 0, false, 0
	} else if r.Gain == 0 {
		r.Gain = yarnGain(r.Factor, 1)
	}
	if len(r.Skip) == 0 {
		r.Skip = nil
	}
	if a.Window >= m.Context {
		a.Window = 0
	}
	if a.Window == 0 || len(a.WindowLayers) == 0 || len(a.WindowLayers) == m.Layers {
		a.WindowLayers = nil
	}
	m.Architecture = a
	return m
}

// Differences lists, in words, the settings in which a model's shape differs from
// the folder's; none if they are equal. The model's context may be shorter if no
// weight depends on it.
func Differences(folder, model spec.Model) []string {
	folder, model = normal(folder), normal(model)
	if folder.Position == spec.Rotary && model.Context < folder.Context {
		model.Context = folder.Context
		model.Architecture.Window = max(model.Architecture.Window, folder.Architecture.Window)
	}
	differs := differences(folder, model, "the folder's")
	if folder.Vocab != model.Vocab {
		differs = append(differs, fmt.Sprintf("the vocabulary has %d entries, and the folder's %d", model.Vocab, folder.Vocab))
	}
	return differs
}

// differences lists the settings in which a model's shape differs from that of a reference,
// whose name is of.
func differences(reference, model spec.Model, of string) []string {
	var differs []string
	settings := model.Settings()
	for i, s := range reference.Settings() {
		if theirs, ours := s.Get(), settings[i].Get(); !reflect.DeepEqual(theirs, ours) {
			differs = append(differs, fmt.Sprintf("%s is %s, and %s is %s", s.Key, setting.Text(ours), of, setting.Text(theirs)))
		}
	}
	return differs
}
