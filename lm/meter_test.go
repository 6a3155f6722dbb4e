package lm

import (
	"testing"
	"time"
)

func TestMeter(t *testing.T) {
	m := NewMeter(2)
	m.last = time.Now().Add(-time.Hour) // the warm-up step takes an hour
	for i := range int64(6) {
		step := Step{Step: i + 1, Tokens: 10 * (i + 1), Phases: Phases{Forward: time.Second, Loss: 2 * time.Second}}
		if err := m.Stepped(step); err != nil {
			t.Fatal(err)
		}
		if i == 2 {
			m.last = m.last.Add(-time.Minute) // and one outlier
		}
	}
	s := m.Speed()
	if s.Steps != 4 || s.Phases != (Phases{Forward: time.Second, Loss: 2 * time.Second}) {
		t.Errorf("%+v", s)
	}
	if s.Median >= time.Second || s.Min > s.Median {
		t.Errorf("median %v, min %v: the warm-up or the outlier counted", s.Median, s.Min)
	}
	if want := 10 / s.Median.Seconds(); s.TokensPerSecond != want {
		t.Errorf("%v tokens a second, want %v", s.TokensPerSecond, want)
	}
	if (NewMeter(1).Speed() != Speed{}) {
		t.Error("a speed without steps")
	}
}
