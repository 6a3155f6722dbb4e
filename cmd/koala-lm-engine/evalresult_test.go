package main

import (
	"math"
	"strings"
	"testing"

	"github.com/koala-lm/koala-lm/report"
)

// Of a large loss the perplexity is infinite, which does not look like an unknown value.
func TestEvalResultShowsInfinity(t *testing.T) {
	loss, ppl := report.Number(800), report.Number(math.Inf(1))
	result := evalResult{Loss: &loss, PPL: &ppl}
	for format, want := range map[string][]string{
		"table": {"loss           800.0000 nats", "\nppl            inf\n", "\nword_ppl       -\n"},
		"json":  {`"loss":800,"ppl":"Infinity","word_ppl":null`},
	} {
		var b strings.Builder
		if err := result.write(&b, format); err != nil {
			t.Fatal(err)
		}
		for _, part := range want {
			if !strings.Contains(b.String(), part) {
				t.Errorf("%s lacks %q:\n%s", format, part, b.String())
			}
		}
	}
}
