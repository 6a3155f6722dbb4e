package koala

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/koala-lm/koala-lm/koala/spec"
)

var update = flag.Bool("update", false, "write the table of kinds into README.md")

// README.md's table of kinds is koala/spec's.
func TestReadme(t *testing.T) {
	const begin, end = "-->\n", "<!-- end of kinds -->"
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	head, rest, found := strings.Cut(string(text), "<!-- kinds:")
	comment, rest, opened := strings.Cut(rest, begin)
	_, tail, closed := strings.Cut(rest, end)
	if !found || !opened || !closed {
		t.Fatal("README.md has no table of kinds")
	}
	var table strings.Builder
	table.WriteString("| kind | what | weight decay | state beside the parameters, at most |\n| --- | --- | --- | --- |\n")
	for _, kind := range spec.Kinds() {
		decay := "in the gradient"
		if kind.DecoupledDecay {
			decay = "decoupled, matrices alone"
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", kind, kind.About, decay, stateOfMatrix(kind))
	}
	want := head + "<!-- kinds:" + comment + begin + table.String() + end + tail
	if *update {
		if err := os.WriteFile("README.md", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(text) {
		t.Error("README.md is not what koala/spec says: run go test ./koala -run Readme -update")
	}
}

// stateOfMatrix is the state of a square matrix in multiples of its size.
func stateOfMatrix(kind *spec.Kind) string {
	const n = 1000
	p := &spec.Param{Shape: []int64{n, n}, Count: n * n, Role: spec.Matrix}
	size := 0.0
	for _, declared := range kind.New(optionsFor(kind)).State().Tensors {
		shape := p.Shape
		if declared.Shape != nil {
			shape = declared.Shape(p)
		}
		if shape == nil {
			continue
		}
		count := 1.0
		for _, d := range shape {
			count *= float64(d)
		}
		size += count / float64(p.Count)
	}
	if size < 0.1 {
		return "-"
	}
	return fmt.Sprintf("%.3g x", size)
}
