package tracking

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestResolve(t *testing.T) {
	s := newStore(t)
	ctx := context.Background()
	if _, err := s.Resolve(ctx, "latest"); !errors.Is(err, ErrNoRun) {
		t.Errorf("latest of none: %v", err)
	}
	if _, err := s.Resolve(ctx, "best"); !errors.Is(err, ErrNoRun) {
		t.Errorf("best of none: %v", err)
	}
	clock := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s.now = func() time.Time { clock = clock.Add(time.Second); return clock }
	for _, n := range []struct {
		id, name string
		ppl      float64
	}{
		{"01aaaa", "twin", 120}, {"01aabb", "twin", 90}, {"01bbbb", "01aa", 100}, {"01cccc", "it's; DROP TABLE runs --", 95},
	} {
		run := startRun(t, s, NewRun{ID: n.id, Name: n.name})
		run.Log(Point{Step: 1, Values: map[string]float64{"val_ppl": n.ppl}})
		if err := run.Finish(Finished, ""); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct{ ref, want string }{
		{"01aabb", "01aabb"},
		{"01AABB", "01aabb"},
		{"01b", "01bbbb"},
		{"twin", "01aabb"},
		{"01aa", "01bbbb"}, // a whole name takes precedence over the prefix of an id
		{"latest", "01cccc"},
		{"best", "01aabb"},
		{"it's; DROP TABLE runs --", "01cccc"},
	}
	for _, test := range tests {
		t.Run(test.ref, func(t *testing.T) {
			if got, err := s.Resolve(ctx, test.ref); err != nil || got != test.want {
				t.Errorf("%q, want %q (%v)", got, test.want, err)
			}
		})
	}
	for ref, want := range map[string]string{"01a": "01aabb, 01aaaa", "nobody": "no such run", "": "empty", "%": "no such run"} {
		if _, err := s.Resolve(ctx, ref); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", ref, err, want)
		}
	}
}

// What depends on a dataset alone is found in any run on it, and in no other.
func TestDatasetMetric(t *testing.T) {
	s := newStore(t)
	for fingerprint, ppl := range map[string]float64{"one": 3, "other": 4} {
		run := startRun(t, s, NewRun{Dataset: Dataset{Fingerprint: fingerprint}})
		run.Log(Point{Step: 7, Values: map[string]float64{"val_ngram_ppl": ppl}})
		if err := run.Finish(Finished, ""); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		fingerprint, metric string
		want                float64
		known               bool
	}{{"one", "val_ngram_ppl", 3, true}, {"other", "val_ngram_ppl", 4, true}, {"one", "test_ngram_ppl", 0, false}, {"none", "val_ngram_ppl", 0, false}} {
		got, known, err := s.DatasetMetric(context.Background(), test.fingerprint, test.metric)
		if got != test.want || known != test.known || err != nil {
			t.Errorf("%s of %s is %v, %v (%v), want %v, %v", test.metric, test.fingerprint, got, known, err, test.want, test.known)
		}
	}
}
