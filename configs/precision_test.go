package configs

import (
	"testing"

	"github.com/koala-lm/koala-lm/lm/spec"
)

// train.precision auto settles by the preset, the dataset's vocabulary and the batch, and a
// value that was set stays. Presets of small models train in float32 everywhere.
func TestSettlePrecision(t *testing.T) {
	capable := spec.Processor{BFloat16: true}
	for _, test := range []struct {
		preset string
		set    string
		vocab  int
		on     spec.Processor
		want   string
	}{
		{"small", "", 33278, capable, spec.Float32},
		{"gpt-char-cpu", "", 65, capable, spec.Float32},
		{"gpt-char-modern", "", 65, capable, spec.Float32},
		{"gpt-char-gpu", "", 65, capable, spec.BFloat16},
		{"gpt-char-gpu", "", 65, spec.Processor{}, spec.Float32},
		{"gpt-char-gpu", "", 65, spec.Processor{GPU: true, BFloat16: true}, spec.Float32},
		{"gpt-char-gpu", "train.batch=1", 65, capable, spec.Float32},
		{"gpt-char-gpu", "train.precision=float32", 65, capable, spec.Float32},
		{"gpt-char-cpu", "train.precision=bfloat16", 65, spec.Processor{}, spec.BFloat16},
		{"gpt-char-cpu", "train.precision=tf32", 65, spec.Processor{GPU: true}, spec.TF32},
		{"wlm-650", "", 33278, capable, spec.BFloat16},
		{"wlm-650", "", 100, capable, spec.Float32},
		{"wlm-650", "model.vocab=33278", 100, capable, spec.BFloat16},
	} {
		t.Run(test.preset+" "+test.set, func(t *testing.T) {
			var b Builder
			b.Preset(test.preset)
			if test.set != "" {
				b.Assign(test.set, "--set")
			}
			s, err := b.Settings()
			if err != nil {
				t.Fatal(err)
			}
			settled, reason := s.SettlePrecision(test.vocab, test.on)
			if settled.Train.Precision != test.want {
				t.Errorf("%s: %s; want %s", settled.Train.Precision, reason, test.want)
			}
			if auto := s.Train.Precision == spec.AutoPrecision; auto != (reason != "") {
				t.Errorf("train.precision %s: the reason is %q", s.Train.Precision, reason)
			}
			settled.Train.Precision = s.Train.Precision
			if differs := Diff(s, settled); len(differs) > 0 {
				t.Errorf("other settings changed: %q", differs)
			}
		})
	}
}
