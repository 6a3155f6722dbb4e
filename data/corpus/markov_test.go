package corpus

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
)

// The source's own loss on its text is the entropy, in nats a token. The loss
// of a unigram model is much larger.
func TestMarkovEntropy(t *testing.T) {
	const size = 300_000
	m := NewMarkov(3, size)
	r := new(recorder)
	if _, err := m.Read(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	if got, want := float64(m.Size()), float64(len(r.texts[0])); math.Abs(got-want) > 0.01*want {
		t.Errorf("the size is %v, and the text has %v bytes", got, want)
	}
	number := map[string]uint16{"\n": 0}
	for w := uint16(1); w < markovWords; w++ {
		if _, twice := number[markovWord(w)]; twice {
			t.Fatalf("%s names two words", markovWord(w))
		}
		number[markovWord(w)] = w
	}
	tokens := strings.Fields(strings.ReplaceAll(r.texts[0], "\n", " <eos> "))
	number["<eos>"] = 0
	nats, before := 0.0, uint16(0)
	counts := map[string]float64{}
	for _, token := range tokens {
		w, ok := number[token]
		if !ok {
			t.Fatalf("%q is no word of the source", token)
		}
		found := false
		m.each(int(before), func(next uint16, share float64) {
			if next == w {
				nats -= math.Log(share)
				found = true
			}
		})
		if !found {
			t.Fatalf("%q never follows word %d", token, before)
		}
		before = w
		counts[token]++
	}
	n := float64(len(tokens))
	if n < size || n > 1.01*size {
		t.Errorf("%v tokens, want about %v", n, size)
	}
	if got, want := nats/n, m.Entropy(); math.Abs(got-want) > 0.005*want {
		t.Errorf("the text costs %.4f nats a token, the entropy is %.4f", got, want)
	}
	unigram := 0.0
	for _, c := range counts {
		unigram -= c / n * math.Log(c/n)
	}
	if unigram < 2*m.Entropy() {
		t.Errorf("frequencies alone cost %.3f nats, the entropy is %.3f: nothing to learn", unigram, m.Entropy())
	}
	again := new(recorder)
	if _, err := NewMarkov(3, size).Read(context.Background(), again); err != nil || again.texts[0] != r.texts[0] {
		t.Errorf("the same seed gives another text, %v", err)
	}
}

// stopping is a Sink that interrupts its reader at the first text.
type stopping struct {
	recorder
	stop func()
}

func (s *stopping) Write(p []byte) (int, error) {
	s.stop()
	return len(p), nil
}

// An interruption ends the text, however much of it is left.
func TestMarkovStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := NewMarkov(1, 1<<60).Read(ctx, &stopping{stop: cancel}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
