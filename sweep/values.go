package sweep

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/koala-lm/koala-lm/configs"
)

// word reads one text; words reads one text or a list of texts.
func (r *reader) word(n *yaml.Node, what string) string {
	if n.Kind != yaml.ScalarNode || n.Value == "" {
		r.add(n, "%s must be a text", what)
	}
	return n.Value
}

func (r *reader) words(n *yaml.Node, what string) []string {
	if n.Kind != yaml.SequenceNode {
		return []string{r.word(n, what)}
	}
	var list []string
	for _, item := range n.Content {
		list = append(list, r.word(item, what))
	}
	return list
}

func (r *reader) count(n *yaml.Node, what string) int { return r.countUpTo(n, what, maxTrials) }

func (r *reader) countUpTo(n *yaml.Node, what string, most int) int {
	v, err := strconv.Atoi(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || v < 1 || v > most {
		r.add(n, "%s must be a whole number from 1 to %d", what, most)
		return 1
	}
	return v
}

// mostSettings is above the number of settings that there are.
const mostSettings = 1000

// choices reads a mapping from settings to values; keys may nest as in a file
// of settings.
func (r *reader) choices(n *yaml.Node, what string, read func(key string, n *yaml.Node) choice) []choice {
	list := []choice{}
	var walk func(prefix string, n *yaml.Node)
	walk = func(prefix string, n *yaml.Node) {
		if n.Kind != yaml.MappingNode {
			r.add(n, "%s must be a mapping from settings to values", what)
			return
		}
		for i := 0; i+1 < len(n.Content) && !r.full(); i += 2 {
			key, value := prefix+n.Content[i].Value, n.Content[i+1]
			if value.Kind == yaml.MappingNode && !isInterval(key, value) {
				walk(key+".", value)
				continue
			}
			if len(list) == mostSettings {
				r.add(n, "%s has more than %d settings", what, mostSettings)
				return
			}
			list = append(list, read(key, value))
		}
	}
	walk("", n)
	return list
}

// value writes a node as a value after key= on a command line.
func (r *reader) value(key string, n *yaml.Node) text {
	switch n.Kind {
	case yaml.ScalarNode:
		return text{n.Value, r.place(n)}
	case yaml.SequenceNode:
		items := make([]string, len(n.Content))
		for i, item := range n.Content {
			items[i] = r.value(key, item).value
		}
		return text{"[" + strings.Join(items, ", ") + "]", r.place(n)}
	}
	r.add(n, "%s must have plain values, without aliases", key)
	return text{}
}

func (r *reader) single(key string, n *yaml.Node) choice {
	return choice{key: key, values: []text{r.value(key, n)}}
}

func (r *reader) list(key string, n *yaml.Node) choice {
	c := choice{key: key}
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
		r.add(n, "%s must be a list of the values to try", key)
		return choice{key: key, values: []text{{}}}
	}
	for _, item := range n.Content {
		c.values = append(c.values, r.value(key, item))
	}
	return c
}

func (r *reader) listOrInterval(key string, n *yaml.Node) choice {
	if n.Kind != yaml.MappingNode {
		if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
			r.add(n, "%s must be a list to draw from, or one of %s", key, intervalHelp)
			return choice{key: key, values: []text{{}}}
		}
		return r.list(key, n)
	}
	within, ok := parseInterval(n)
	switch {
	case !slices.Contains(intervalKinds, n.Content[0].Value):
		r.add(n.Content[0], "%s: %q is no distribution: draw from one of %s, or from a list", key, n.Content[0].Value, intervalHelp)
		within = &interval{kind: "uniform"}
	case !ok:
		r.add(n, "%s: {%s: ...} needs two numbers, the lower one first (and above 0 for log)", key, n.Content[0].Value)
		within = &interval{kind: "uniform"}
	}
	within.whole = wholeNumber(key)
	return choice{key: key, within: within, where: r.place(n)}
}

// interval is a range from which numbers are drawn.
type interval struct {
	kind      string // one of intervalKinds
	low, high float64
	whole     bool // the setting takes whole numbers
}

var intervalKinds = []string{"uniform", "log", "int"}

const intervalHelp = "{uniform: [a, b]}, {log: [a, b]}, {int: [a, b]}"

// isInterval reports whether a mapping is a distribution for the setting key, of a
// known or unknown kind, and not a group of settings.
func isInterval(key string, n *yaml.Node) bool {
	if len(n.Content) != 2 || n.Content[1].Kind == yaml.MappingNode {
		return false
	}
	return slices.Contains(intervalKinds, n.Content[0].Value) ||
		slices.ContainsFunc(configs.Reference(), func(e configs.Entry) bool { return e.Key == key })
}

// wholeNumber reports whether a setting takes whole numbers.
func wholeNumber(key string) bool {
	return slices.ContainsFunc(configs.Reference(), func(e configs.Entry) bool {
		return e.Key == key && strings.HasPrefix(e.Allowed, "a whole number")
	})
}

func parseInterval(n *yaml.Node) (*interval, bool) {
	in := &interval{kind: n.Content[0].Value}
	ends := n.Content[1]
	if ends.Kind != yaml.SequenceNode || len(ends.Content) != 2 {
		return nil, false
	}
	for i, p := range []*float64{&in.low, &in.high} {
		v, err := strconv.ParseFloat(ends.Content[i].Value, 64)
		if err != nil || math.IsNaN(v) || math.IsInf(v, 0) || in.kind == "int" && v != math.Trunc(v) {
			return nil, false
		}
		*p = v
	}
	return in, in.low < in.high && (in.kind != "log" || in.low > 0)
}
