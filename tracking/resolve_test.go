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
