package main

import (
	"testing"

	"github.com/koala-lm/koala-lm/cmd/internal/exit"
)

// sampleOf returns the single sample of the newest run.
func sampleOf(t *testing.T, w *workshop) string {
	t.Helper()
	run, _ := w.run()
	var text string
	for _, e := range run.Events {
		if e.Kind != "sample" {
			continue
		}
		if text != "" {
			t.Errorf("two samples: %q and %q", text, e.Message)
		}
		text = e.Message
	}
	return text
}

// A run that ends well records a sample, which depends on its seed.
func TestSample(t *testing.T) {
	var texts []string
	for _, set := range [][]string{{}, {}, {"train.seed=2"}} {
		w := newWorkshop(t)
		w.train(w.request(settings(t, set...), "")).mustEnd(t, exit.OK)
		texts = append(texts, sampleOf(t, w))
	}
	if texts[0] == "" || texts[0] != texts[1] {
		t.Errorf("one seed wrote %q and %q", texts[0], texts[1])
	}
	if texts[0] == texts[2] {
		t.Errorf("two seeds wrote %q", texts[0])
	}
}
