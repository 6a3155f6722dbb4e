package configs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/koala-lm/koala-lm/lm/spec"
)

// build resolves --set style assignments over the defaults.
func build(t *testing.T, assignments ...string) Settings {
	t.Helper()
	var b Builder
	for _, a := range assignments {
		b.Assign(a, "--set")
	}
	s, err := b.Settings()
	if err != nil {
		t.Fatalf("%q: %v", assignments, err)
	}
	return s
}

func TestDefaultsByKind(t *testing.T) {
	type tuned struct{ LR, Clip, Q, Beta2, Decay float64 }
	for _, test := range []struct {
		set  []string
		want tuned
	}{
		{nil, tuned{LR: 6, Clip: 0.25, Q: 1e-3, Beta2: 0.999, Decay: 0.1}},
		{[]string{"optimizer.kind=koala-v"}, tuned{LR: 1, Q: 10}},
		{[]string{"optimizer.kind=sgd"}, tuned{LR: 20, Clip: 0.25}},
		{[]string{"optimizer.kind=adam"}, tuned{LR: 0.002, Clip: 0.25, Beta2: 0.999}},
		{[]string{"optimizer.kind=asgd"}, tuned{LR: 30, Clip: 0.25, Decay: 1.2e-6}},
		{[]string{"optimizer.kind=koala-d"}, tuned{LR: 10, Clip: 0.25, Q: 1e-3, Beta2: 0.999}},
		{[]string{"optimizer.kind=koala-m"}, tuned{LR: 0.1}},
		{[]string{"optimizer.kind=koala++"}, tuned{LR: 1, Clip: 0.25, Q: 100}},
		{[]string{"model.kind=transformer"}, tuned{LR: 3, Clip: 1, Q: 1e-3, Beta2: 0.99, Decay: 0.1}},
		{[]string{"model.kind=transformer", "optimizer.kind=koala-v"}, tuned{LR: 0.3, Q: 1}},
		{[]string{"model.kind=transformer", "optimizer.kind=koala-d"}, tuned{LR: 1, Clip: 1, Q: 1e-3, Beta2: 0.99}},
		{[]string{"model.kind=transformer", "optimizer.kind=sgd"}, tuned{LR: 1, Clip: 1}},
		{[]string{"model.kind=transformer", "optimizer.kind=adamw"}, tuned{LR: 0.001, Clip: 1, Beta2: 0.999, Decay: 0.01}},
		{[]string{"optimizer.kind=sgd", "optimizer.lr=5", "train.clip=0"}, tuned{LR: 5}},
	} {
		s := build(t, test.set...)
		o := s.Optimizer
		got := tuned{o.Float("lr"), o.Float("clip"), o.Float("q"), o.Float("beta2"), o.Float("weight_decay")}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", test.set, diff)
		}
	}
}

func TestLength(t *testing.T) {
	if got := build(t).Train.Epochs; got != 6 {
		t.Errorf("epochs %d by default, want 6", got)
	}
	if got := build(t, "train.steps=10").Train.Epochs; got != 0 {
		t.Errorf("epochs %d beside steps, want no limit", got)
	}
	if got := build(t, "train.time_limit=5m").Train.Epochs; got != 6 {
		t.Errorf("epochs %d beside a time limit, want 6", got)
	}
	var b Builder
	b.Source("f.yaml", []byte("train: {epochs: 3, time_limit: 5m}"))
	b.Assign("train.steps=100", "--set")
	if s, err := b.Settings(); err != nil || s.Train.Epochs != 0 || s.Train.Steps != 100 || s.Train.TimeLimit == 0 {
		t.Errorf("steps over a file's epochs: %+v, %v", s.Train, err)
	}
	s := build(t, "train.time_limit=1h30m", "train.epochs=2")
	if s.Train.Epochs != 2 || s.Train.TimeLimit != 90*time.Minute {
		t.Errorf("got %d epochs and %v", s.Train.Epochs, s.Train.TimeLimit)
	}
	if got := build(t, "train.time_limit=90").Train.TimeLimit; got != 90*time.Second {
		t.Errorf("a bare number of seconds is %v", got)
	}
}

func TestLayersOverOneAnother(t *testing.T) {
	var b Builder
	b.Source("a.yaml", []byte("train: {batch: 10, bptt: 20, seed: 3}\noptimizer: {kind: sgd, lr: 7}\n"))
	b.Source("b.yaml", []byte("train.batch: 11\n"))
	b.Assign("train.bptt = 21", "--set")
	b.Assign("train.bptt=22", "--set")
	b.Set("train.seed", int64(-4), "--seed")
	s, err := b.Settings()
	if err != nil {
		t.Fatal(err)
	}
	if s.Train.Batch != 11 || s.Train.BPTT != 22 || s.Train.Seed != -4 || s.Optimizer.Float("lr") != 7 {
		t.Errorf("got %+v, lr %v", s.Train, s.Optimizer.Float("lr"))
	}
}

// Settings tuned for a kind do not survive a change of kind by a later source.
func TestChangeOfKindDropsWhatWasTuned(t *testing.T) {
	base := "model: {kind: lstm, embed: 400, hidden: 1150}\noptimizer: {kind: asgd, lr: 30, nonmono: 7}\n" +
		"train: {clip: 0.5, bptt: 70, seed: 9}\nschedule: {kind: step, every: 10}\n"
	over := func(assignments ...string) Settings {
		t.Helper()
		var b Builder
		b.Source("base.yaml", []byte(base))
		for _, a := range assignments {
			b.Assign(a, "--set")
		}
		s, err := b.Settings()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := over("optimizer.kind=asgd"); s.Optimizer.Int("nonmono") != 7 || s.Optimizer.Float("clip") != 0.5 {
		t.Errorf("the same kind again: nonmono %d, clip %v", s.Optimizer.Int("nonmono"), s.Optimizer.Float("clip"))
	}
	if s := over("optimizer.kind=koala-v"); s.Optimizer.Float("lr") != 1 || s.Optimizer.Float("clip") != 0 || s.Model.Hidden != 1150 || s.Train.Seed != 9 {
		t.Errorf("another optimizer: lr %v, clip %v, hidden %d, seed %d", s.Optimizer.Float("lr"), s.Optimizer.Float("clip"), s.Model.Hidden, s.Train.Seed)
	}
	if s := over("model.kind=gru"); s.Model.Hidden != 1150 || s.Optimizer.Float("lr") != 30 {
		t.Errorf("a model of the same family: hidden %d, lr %v", s.Model.Hidden, s.Optimizer.Float("lr"))
	}
	if s := over("model.kind=transformer"); s.Model.Embed != 128 || s.Optimizer.Kind != "asgd" || s.Optimizer.Float("lr") != 1 || s.Train.BPTT != 0 {
		t.Errorf("another family: embed %d, %s lr %v, bptt %d", s.Model.Embed, s.Optimizer.Kind, s.Optimizer.Float("lr"), s.Train.BPTT)
	}
	if s := over("schedule.kind=constant"); s.Schedule.Every != 0 {
		t.Errorf("another schedule: every %d", s.Schedule.Every)
	}
}

func TestTransformerSizes(t *testing.T) {
	for _, test := range []struct {
		set  []string
		want spec.Model
	}{
		{nil, spec.Model{Hidden: 512, Heads: 4, KVHeads: 4}},
		{[]string{"model.mlp=swiglu"}, spec.Model{Hidden: 352, Heads: 4, KVHeads: 4}},
		{[]string{"model.embed=384", "model.heads=6"}, spec.Model{Hidden: 1536, Heads: 6, KVHeads: 6}},
		{[]string{"model.hidden=100", "model.kv_heads=2"}, spec.Model{Hidden: 100, Heads: 4, KVHeads: 2}},
	} {
		s := build(t, append(test.set, "model.kind=transformer")...)
		got := spec.Model{Hidden: s.Model.Hidden, Heads: s.Model.Heads, KVHeads: s.Model.KVHeads}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", test.set, diff)
		}
		if s.SequenceLength() != 64 {
			t.Errorf("sequence length %d", s.SequenceLength())
		}
	}
}

func TestConfigNamesPresetOrFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mine.yaml")
	if err := os.WriteFile(file, []byte("train: {batch: 3}"), 0o666); err != nil {
		t.Fatal(err)
	}
	var b Builder
	b.Config("small")
	b.Config(file)
	s, err := b.Settings()
	if err != nil || s.Train.Batch != 3 || s.Train.BPTT != 35 {
		t.Errorf("batch %d, bptt %d, %v", s.Train.Batch, s.Train.BPTT, err)
	}
	for name, want := range map[string]string{
		"smal":         `no preset and no file is named "smal": did you mean small?`,
		"zzz":          `no preset and no file is named "zzz": the presets are `,
		"./none.yaml":  "read settings: open ./none.yaml: no such file or directory",
		t.TempDir():    "is a directory",
		"nothing.yaml": "read settings: open nothing.yaml: no such file",
	} {
		var b Builder
		b.Config(name)
		if _, err := b.Settings(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("config %s: %v, want %q", name, err, want)
		}
	}
}

func TestEveryPresetIsValid(t *testing.T) {
	for _, p := range Presets() {
		var b Builder
		b.Preset(p.Name)
		if _, err := b.Settings(); err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
		if p.About == "" || !strings.HasPrefix(p.Text, "# ") {
			t.Errorf("%s does not begin with a line about it", p.Name)
		}
	}
}

func preset(t *testing.T, name string) Settings {
	t.Helper()
	var b Builder
	b.Preset(name)
	s, err := b.Settings()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A preset based on another has the other's settings, except the ones tuned for an
// optimizer that it replaces.
func TestPresetsOnPresets(t *testing.T) {
	awd, ptb, koala := preset(t, "awd-lstm-wt2"), preset(t, "awd-lstm-ptb"), preset(t, "awd-lstm-ptb-koala")
	if ptb.Model.Hidden != awd.Model.Hidden || ptb.Model.Dropout.Input != 0.4 || ptb.Optimizer.Float("lr") != 30 || ptb.Optimizer.Float("clip") != 0.25 {
		t.Errorf("awd-lstm-ptb: %+v, lr %v, clip %v", ptb.Model, ptb.Optimizer.Float("lr"), ptb.Optimizer.Float("clip"))
	}
	if o := koala.Optimizer; o.Kind != "koala-k" || o.Float("lr") != 6 || o.Float("weight_decay") != 0.1 || koala.Schedule.Kind != "cosine" || koala.Model.Dropout.Input != 0.4 {
		t.Errorf("awd-lstm-ptb-koala: %+v, clip %v, %+v", o, koala.Optimizer.Float("clip"), koala.Model)
	}
	if got := preset(t, "small"); !cmp.Equal(got, build(t)) {
		t.Errorf("small is not the defaults: %v", Diff(got, build(t)))
	}
	cpu := preset(t, "gpt-char-cpu")
	if cpu.Model.Embed != 128 || cpu.Train.Steps != 2000 || cpu.Schedule.Floor != 0.1 || cpu.Optimizer.Float("beta2") != 0.99 {
		t.Errorf("gpt-char-cpu: %+v", cpu)
	}
}
