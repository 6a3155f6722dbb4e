package configs

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/koala-lm/koala-lm/internal/setting"
	"github.com/koala-lm/koala-lm/internal/suggest"
)

// maxSource bounds a file of settings: a larger file is not a file of settings.
const maxSource = 1 << 20

// parse reads a document of settings into values by key. Sections nest, and a
// key may be dotted. Decoding into structs would turn 1.5 into 1 and lose the
// positions, so parse walks the nodes.
func (l *layer) parse(name string, text []byte, problems *Problems) {
	loader, err := yaml.NewLoader(bytes.NewReader(text))
	if err != nil {
		problems.add(name, "%v", err)
		return
	}
	var document, second yaml.Node
	if err := loader.Load(&document); err == io.EOF {
		return // nothing but comments
	} else if err != nil {
		addSyntaxError(problems, name, err)
		return
	}
	w := &walker{layer: l, name: name, problems: problems, seen: map[string]*yaml.Node{}}
	for _, root := range document.Content {
		w.section("", root)
	}
	if err := loader.Load(&second); err == nil {
		problems.add(place(name, &second), "a second document: settings are one document")
	} else if err != io.EOF {
		addSyntaxError(problems, name, err)
	}
}

func addSyntaxError(problems *Problems, name string, err error) {
	var load *yaml.LoadError
	if !errors.As(err, &load) {
		problems.add(name, "not YAML: %v", err)
		return
	}
	if load.Mark.Line > 0 {
		name = fmt.Sprintf("%s:%d:%d", name, load.Mark.Line, load.Mark.Column)
	}
	problems.add(name, "not YAML: %s", load.Message)
}

// place returns the position of a node in a file, or "" without a file name: a
// program's JSON is one line, in which a position does not help.
func place(name string, n *yaml.Node) string {
	if name == "" {
		return ""
	}
	return fmt.Sprintf("%s:%d:%d", name, n.Line, n.Column)
}

// walker fills a layer from the nodes of a document.
type walker struct {
	layer    *layer
	name     string
	problems *Problems
	seen     map[string]*yaml.Node
}

// section reads the mapping whose settings' keys begin with prefix.
func (w *walker) section(prefix string, n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		w.notSection(prefix, n)
		return
	}
	for i := 0; i+1 < len(n.Content) && len(*w.problems) < MostProblems; i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		if name.Kind != yaml.ScalarNode || name.ShortTag() == "!!merge" {
			w.problems.add(place(w.name, name), "a setting's name must be plain text")
			continue
		}
		key := prefix + name.Value
		if first, twice := w.seen[key]; twice {
			w.problems.add(place(w.name, name), "%s is set twice, first on line %d", shortened(key), first.Line)
			continue
		}
		w.seen[key] = name
		if key == "base" {
			w.base(value)
			continue
		}
		if isSection(key) {
			w.section(key+".", value)
			continue
		}
		w.layer.put(key, value, place(w.name, name), w.problems)
	}
}

// base records the preset below the document.
func (w *walker) base(n *yaml.Node) {
	if n.Kind != yaml.ScalarNode || !IsPreset(n.Value) {
		w.problems.add(place(w.name, n), "base must be a preset (%s), not %s", strings.Join(presetNames(), ", "), describe(n))
		return
	}
	w.layer.base = n.Value
}

func (w *walker) notSection(prefix string, n *yaml.Node) {
	where := place(w.name, n)
	switch {
	case n.Kind == yaml.AliasNode:
		w.problems.add(where, "aliases (*%s) are not taken: write the value out, or put text that begins with * in quotes", shortened(n.Value))
	case prefix == "":
		w.problems.add(where, "settings must be a mapping such as \"train: {batch: 20}\"")
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null":
		// An empty section, as after commenting out all of it.
	default:
		section := strings.TrimSuffix(prefix, ".")
		w.problems.add(where, "%s is a section (it has %s), not a setting", section, strings.Join(keysUnder(prefix), ", "))
	}
}

// put reads one value and stores it.
func (l *layer) put(key string, n *yaml.Node, where string, problems *Problems) {
	d, known := declaration(key)
	if !known {
		near := cmp.Or(Meant(key), suggest.Name(key, slices.Concat(Keys(), sections())), Meant(key[strings.LastIndexByte(key, '.')+1:]))
		if near != "" {
			problems.add(where, "unknown setting %s: did you mean %s?", quoted(key), near)
		} else if section, _, dotted := strings.Cut(key, "."); dotted && isSection(section) {
			problems.add(where, "unknown setting %s: %s has %s", quoted(key), section, strings.Join(keysUnder(section+"."), ", "))
		} else {
			problems.add(where, "unknown setting %s: the sections are %s", quoted(key), strings.Join(sections(), ", "))
		}
		return
	}
	if n.Kind == yaml.AliasNode {
		problems.add(where, "%s: aliases (*%s) are not taken: write the value out, or put text that begins with * in quotes", key, shortened(n.Value))
		return
	}
	value, ok := any(nil), false
	if l, readable := literal(n); readable {
		value, ok = d.Domain.Parse(l)
	}
	if !ok {
		text := "must be " + d.Domain.String() + ", not " + describe(n)
		if n.Kind == yaml.ScalarNode {
			if near := suggest.Name(n.Value, d.Domain.Words()); near != "" {
				text += ": did you mean " + near + "?"
			}
		}
		problems.add(where, "%s %s", key, text)
		l.broken[key] = true
		return
	}
	l.values[key] = assignment{value, where}
}

// literal reads a scalar or a list of literals; ok is false for other nodes.
func literal(n *yaml.Node) (l setting.Literal, ok bool) {
	switch n.Kind {
	case yaml.ScalarNode:
		quoted := n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0
		return setting.Literal{Text: n.Value, Quoted: quoted}, true
	case yaml.SequenceNode:
		l.IsList = true
		for _, item := range n.Content {
			one, ok := literal(item)
			if !ok {
				return l, false
			}
			l.List = append(l.List, one)
		}
		return l, true
	}
	return l, false
}

// describe describes a refused value.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		items := make([]string, len(n.Content))
		for i, item := range n.Content {
			items[i] = describe(item)
		}
		return "[" + strings.Join(items, ", ") + "]"
	}
	if n.ShortTag() == "!!null" && n.Value == "" {
		return "nothing"
	}
	if l, ok := literal(n); ok && l.Quoted {
		return "the text " + quoted(n.Value)
	}
	return shortened(n.Value)
}

// quoted and shortened write a user's text on one line of limited length.
func quoted(s string) string { return fmt.Sprintf("%q", cut(s)) }

func shortened(s string) string {
	if q := quoted(s); q != `"`+s+`"` {
		return q
	}
	return s
}

func cut(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
