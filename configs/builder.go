package configs

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// A Builder combines sources of settings, later over earlier, and collects all their
// errors. The zero Builder has the defaults.
//
// Settings tuned for one kind do not carry over to another. If a source changes
// optimizer.kind, it drops the earlier sources' settings of the optimizer and all
// settings whose default depends on that kind. If it changes the family of
// model.kind, it drops the settings of the model and the optimizer, and all settings
// whose default depends on the family. So `--set optimizer.kind=sgd` alone, on any
// preset, trains with SGD's own defaults. Likewise a source that sets only one of
// train.steps and train.epochs replaces both.
type Builder struct {
	layers   []*layer
	problems Problems
	line     bool // the last layer holds the command line
}

// layer holds the settings of one source.
type layer struct {
	base     string // name of the preset below it
	values   map[string]assignment
	broken   map[string]bool // keys set to an illegal value
	recorded bool            // recorded by a program, not written by a person
}

type assignment struct {
	value any
	where string
}

func newLayer() *layer {
	return &layer{values: map[string]assignment{}, broken: map[string]bool{}}
}

func (b *Builder) add(l *layer) {
	b.layers = append(b.layers, l)
	b.line = false
}

// commandLine is the layer that Assign and Set share.
func (b *Builder) commandLine() *layer {
	if !b.line {
		b.add(newLayer())
		b.line = true
	}
	return b.layers[len(b.layers)-1]
}

// File adds a YAML file.
func (b *Builder) File(path string) {
	text, err := readSource(path)
	if err != nil {
		b.problems.add("", "read settings: %v", err)
		return
	}
	b.Source(path, text)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func readSource(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSource+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxSource {
		return nil, fmt.Errorf("%s: larger than 1 MiB, so no file of settings", path)
	}
	return text, nil
}

// Source adds YAML (or JSON) text; problems are placed by name and line. Beside
// settings it may hold "base: PRESET", whose settings are added before its own.
func (b *Builder) Source(name string, text []byte) { b.source(name, text, false) }

func (b *Builder) source(name string, text []byte, recorded bool) {
	l := newLayer()
	l.recorded = recorded
	l.parse(name, text, &b.problems)
	l.addFormer()
	if l.base != "" {
		b.Preset(l.base)
	}
	b.add(l)
}

// Assign adds "key=value", the value in YAML as in a file. If a key is assigned
// twice, the last value counts.
func (b *Builder) Assign(text, where string) {
	key, value, ok := strings.Cut(text, "=")
	if !ok {
		b.problems.add(where, "%s must be key=value, such as train.batch=40", quoted(text))
		return
	}
	key = strings.TrimSpace(key)
	if isSection(key) {
		b.problems.add(where, "%s is a section (it has %s), not a setting", key, strings.Join(keysUnder(key+"."), ", "))
		return
	}
	n, err := parseValue(value)
	if err != nil {
		b.problems.add(where, "%s: %s is not a YAML value", shortened(key), quoted(value))
		return
	}
	b.commandLine().put(key, n, where, &b.problems)
}

func parseValue(text string) (*yaml.Node, error) {
	loader, err := yaml.NewLoader(strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	var document, more yaml.Node
	if err := loader.Load(&document); err == io.EOF || err == nil && len(document.Content) == 0 {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}, nil
	} else if err != nil {
		return nil, err
	}
	if err := loader.Load(&more); err != io.EOF {
		return nil, errors.New("more than one document")
	}
	return document.Content[0], nil
}

// Set adds one value of a setting's own type, as Flat has it.
func (b *Builder) Set(key string, value any, where string) {
	n, err := parseValue(Text(value))
	if err != nil {
		b.problems.add(where, "%s: %v", key, err)
		return
	}
	b.commandLine().put(key, n, where, &b.problems)
}

// Values adds recorded values by key, as Flat gave them to a store.
func (b *Builder) Values(where string, values map[string]any) {
	l := newLayer()
	l.recorded = true
	b.add(l)
	for _, key := range slices.Sorted(maps.Keys(values)) {
		n, err := parseValue(Text(values[key]))
		if err != nil {
			b.problems.add(where, "%s: %v", key, err)
			continue
		}
		l.put(key, n, where, &b.problems)
	}
	l.addFormer()
}

// former are earlier versions' defaults of settings that are younger than a recorded
// run. The run keeps them, since its record lacks the setting.
var former = []struct {
	key, kind string // of a run with this optimizer.kind
	value     any
}{
	// KOALA-D decayed biases and norm gains too.
	{"optimizer.decay_norms", "koala-d", true},
}

// addFormer adds the former defaults to a recorded layer.
func (l *layer) addFormer() {
	for _, f := range former {
		_, known := l.values[f.key]
		if kind, ok := l.values["optimizer.kind"]; l.recorded && !known && ok && kind.value == f.kind {
			l.values[f.key] = assignment{value: f.value}
		}
	}
}

// Settings returns the resolved settings, or all Problems.
func (b *Builder) Settings() (Settings, error) {
	r := b.resolve()
	r.checkTogether()
	if problems := append(slices.Clone(b.problems), r.problems...); len(problems) > 0 {
		return Settings{}, problems
	}
	return r.settings, nil
}
