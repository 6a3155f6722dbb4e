package configs

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	koalaspec "github.com/koala-lm/koala-lm/koala/spec"
)

// All problems of a source are reported, with the place and the allowed values.
func TestProblems(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"several at once", "train:\n  batch: 1.5\n  bacth: 3\noptimizer:\n  lr: -1\n  kind: adma\n", []string{
			"f.yaml:2:3: train.batch must be a whole number of at least 1, not 1.5",
			`f.yaml:3:3: unknown setting "train.bacth": did you mean train.batch?`,
			"f.yaml:5:3: optimizer.lr must be a number greater than 0, not -1",
			"f.yaml:6:3: optimizer.kind must be one of " + strings.Join(koalaspec.Names(), ", ") + ", not adma: did you mean adam?",
		}},
		{"names of other programs", "{lr: 1, optimizer: {learning_rate: 1}, batch_size: 4, BS: 2}", []string{
			`f.yaml:1:2: unknown setting "lr": did you mean optimizer.lr?`,
			`f.yaml:1:21: unknown setting "optimizer.learning_rate": did you mean optimizer.lr?`,
			`f.yaml:1:40: unknown setting "batch_size": did you mean train.batch?`,
			`f.yaml:1:55: unknown setting "BS": did you mean train.batch?`,
		}},
		{"unknown section", "optimiser: {lr: 1}", []string{`f.yaml:1:1: unknown setting "optimiser": did you mean optimizer?`}},
		{"no section at all", "zzzzzzzzzzzzz: 1", []string{`f.yaml:1:1: unknown setting "zzzzzzzzzzzzz": the sections are model, optimizer, schedule, train, eval, checkpoint`}},
		{"unknown in a section", "eval: {zzzzzzzzzzz: 1}", []string{`f.yaml:1:8: unknown setting "eval.zzzzzzzzzzz": eval has every, patience, batch`}},
		{"text for a number", `train: {batch: "20"}`, []string{`f.yaml:1:9: train.batch must be a whole number of at least 1, not the text "20"`}},
		{"not finite", "optimizer: {lr: .inf}", []string{"f.yaml:1:13: optimizer.lr must be a number greater than 0, not .inf"}},
		{"yes", "model: {tied: yes}", []string{"f.yaml:1:9: model.tied must be true or false, not yes"}},
		{"nothing", "model:\n  layers:\n", []string{"f.yaml:2:3: model.layers must be a whole number from 1 to 1000, not nothing"}},
		{"a list", "model: {layers: [1, 2]}", []string{"f.yaml:1:9: model.layers must be a whole number from 1 to 1000, not [1, 2]"}},
		{"cutoffs that fall", "model: {softmax: adaptive, cutoffs: [5, 3]}", []string{"f.yaml:1:28: model.cutoffs must be a list of ascending whole numbers such as [2000, 10000], not [5, 3]"}},
		{"probability of one", "model: {dropout: {input: 1}}", []string{"f.yaml:1:19: model.dropout.input must be a number of at least 0 and less than 1, not 1"}},
		{"twice", "train:\n  batch: 1\n  batch: 2\n", []string{"f.yaml:3:3: train.batch is set twice, first on line 2"}},
		{"twice, dotted", "train:\n  batch: 1\ntrain.batch: 2\n", []string{"f.yaml:3:1: train.batch is set twice, first on line 2"}},
		{"section for a setting", "train: 3", []string{"f.yaml:1:8: train is a section ("}},
		{"alias", "train: {batch: &b 3}\neval: {batch: *b}\n", []string{"f.yaml:2:8: eval.batch: aliases (*b) are not taken: write the value out, or put text that begins with * in quotes"}},
		{"merge", "<<: {a: 1}", []string{"f.yaml:1:1: a setting's name must be plain text"}},
		{"second document", "train: {batch: 3}\n---\ntrain: {batch: 4}\n", []string{"f.yaml:2:1: a second document: settings are one document"}},
		{"not YAML", "train: [1\n", []string{"f.yaml:2:1: not YAML: did not find expected ',' or ']'"}},
		{"a list of settings", "- a", []string{`f.yaml:1:1: settings must be a mapping such as "train: {batch: 20}"`}},
		{"bptt of a transformer", "model: {kind: transformer}\ntrain: {bptt: 3}", []string{
			"f.yaml:2:9: train.bptt is for model.kind lstm or gru, not transformer (its sequences have model.context tokens)"}},
		{"another optimizer's", "optimizer: {kind: sgd, symmetric: true}", []string{"f.yaml:1:24: optimizer.symmetric is for optimizer.kind koala++, not sgd"}},
		{"heads", "model: {kind: transformer, heads: 3}", []string{"f.yaml:1:28: model.heads 3 must divide model.embed 128"}},
		{"kv heads", "model: {kind: transformer, kv_heads: 3}", []string{"f.yaml:1:28: model.kv_heads 3 must divide model.heads 4"}},
		{"rotary", "model: {kind: transformer, embed: 12, position: rotary}", []string{
			"f.yaml:1:39: model.position rotary needs heads of even width, and 3 elements of a head would turn"}},
		{"no covariance", "optimizer: {kind: koala-m, sc: 1}", []string{
			"f.yaml:1:28: optimizer.sc 1 is no covariance of variances sw 0.1 and sv 0.1: its square must be at most their product"}},
		{"nesterov", "optimizer: {kind: sgd, nesterov: true}", []string{"f.yaml:1:24: optimizer.nesterov needs a momentum: set optimizer.momentum, such as 0.9"}},
		{"no end", "train: {epochs: 0}", []string{"f.yaml:1:9: nothing would end the run: set train.steps, train.epochs or train.time_limit"}},
		{"cosine to nowhere", "schedule: {kind: cosine}\ntrain: {time_limit: 5m, epochs: 0}", []string{
			"f.yaml:2:25: schedule.kind cosine needs to know where it ends: set schedule.steps, train.steps or train.epochs"}},
		{"warm-up past the end", "schedule: {kind: cosine, warmup: 10}\ntrain: {steps: 10}", []string{
			"f.yaml:2:9: schedule.warmup 10 must be less than the 10 steps of the schedule"}},
		{"a broken value is not blamed twice", "model: {kind: transformer, heads: x}", []string{
			"f.yaml:1:28: model.heads must be a whole number of at least 1, not x"}},
		{"no such base", "base: smal", []string{"f.yaml:1:7: base must be a preset ("}},
		{"variable length", "train: {variable_bptt: true, batching: random}", []string{
			"f.yaml:1:30: train.variable_bptt is for train.batching contiguous, not random"}},
		{"only comments", "# nothing\n", nil},
		{"empty sections", "train:\nmodel:\n", nil},
		{"byte order mark and CRLF", "\ufefftrain:\r\n  batch: 3\r\n", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			var b Builder
			b.Source("f.yaml", []byte(test.text))
			_, err := b.Settings()
			var got []string
			if err != nil {
				got = strings.Split(err.Error(), "\n")
			}
			for i, want := range test.want { // an open parenthesis at the end begins a list of names
				if i < len(got) && strings.HasSuffix(want, "(") && strings.HasPrefix(got[i], want) {
					got[i] = want
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestProblemsOfAssignments(t *testing.T) {
	for text, want := range map[string]string{
		"train.batch":          `--set: "train.batch" must be key=value, such as train.batch=40`,
		"train.batch=":         "--set: train.batch must be a whole number of at least 1, not nothing",
		"train.batch=x":        "--set: train.batch must be a whole number of at least 1, not x",
		"train=3":              "--set: train is a section (it has clip,",
		"=3":                   `--set: unknown setting ""`,
		"train.batch=[":        `--set: train.batch: "[" is not a YAML value`,
		"train.batch=1\n2":     "--set: train.batch must be a whole number of at least 1, not 1 2",
		"a\nb=1":               `--set: unknown setting "a\nb"`,
		"train.time_limit=-3s": "--set: train.time_limit must be a length of time such as 90s, 10m or 1h30m (0 is no limit), not -3s",
	} {
		var b Builder
		b.Assign(text, "--set")
		_, err := b.Settings()
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// Names in other programs point at settings that exist.
func TestOtherNamesAreSettings(t *testing.T) {
	for name, key := range otherNames {
		if !slices.Contains(Keys(), key) {
			t.Errorf("%s points at %s, which is no setting", name, key)
		}
	}
}

// A file that no person writes is refused without going through all of it.
func TestManyProblems(t *testing.T) {
	var text strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&text, "k%d: 1\n", i)
	}
	var b Builder
	b.Source("s.yaml", []byte(text.String()))
	_, err := b.Settings()
	var problems Problems
	if !errors.As(err, &problems) || len(problems) != MostProblems {
		t.Errorf("%d problems, want %d: %.200v", len(problems), MostProblems, err)
	}
}
