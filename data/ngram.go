package data

import (
	"fmt"
	"math"
	"slices"
)

// MaxOrder is the largest order of an n-gram model.
const MaxOrder = 5

// KneserNeyPPL returns the perplexity on a split of an n-gram model of the train split,
// with modified Kneser-Ney smoothing, interpolated (Chen & Goodman 1999): what counting
// alone achieves. As for other models, the split's first token is not scored.
func (d *Dataset) KneserNeyPPL(split string, order int) (float64, error) {
	text, ok := d.Split(split)
	if !ok {
		return 0, fmt.Errorf("dataset %s has no %s split", d.Name(), split)
	}
	train, ok := d.Split("train")
	if !ok {
		return 0, fmt.Errorf("dataset %s has no train split", d.Name())
	}
	if order < 1 || order > MaxOrder {
		return 0, fmt.Errorf("order %d: expected 1 to %d", order, MaxOrder)
	}
	counted, err := train.ids()
	if err != nil {
		return 0, err
	}
	scored, err := text.ids()
	if err != nil || len(scored) < 2 {
		return math.NaN(), err
	}
	m, nats := newKneserNey(counted, scored, order, d.Vocab()), 0.0
	for i := 1; i < len(scored); i++ {
		nats -= math.Log(m.probability(scored[:i], scored[i]))
	}
	return math.Exp(nats / float64(len(scored)-1)), nil
}

// ids returns all ids.
func (t *Tokens) ids() ([]uint32, error) {
	all, part := make([]uint32, 0, t.Len()), make([]int64, min(t.Len(), 1<<14))
	for from := 0; from < t.Len(); from += len(part) {
		part = part[:min(len(part), t.Len()-from)]
		if err := t.Read(part, from); err != nil {
			return nil, err
		}
		for _, id := range part {
			all = append(all, uint32(id))
		}
	}
	return all, nil
}

// A gram is up to MaxOrder ids; the rest is 0.
type gram [MaxOrder]uint32

func gramOf(ids []uint32) (g gram) {
	copy(g[:], ids)
	return g
}

// kneserNey is an n-gram model that knows the n-grams of one text. The count of an n-gram
// of the highest order is how often it is in train, of a lower order the number of
// different tokens before it.
type kneserNey struct {
	order, vocab int
	counts       [MaxOrder + 1]map[gram]int64      // by order
	contexts     [MaxOrder + 1]map[gram]*followers // by the order of the n-grams that begin with them
	discounts    [MaxOrder + 1][4]float64          // by order and count; the last is of all counts from 3 on
}

// followers describe the n-grams that begin with a context.
type followers struct {
	total int64    // sum of their counts
	of    [4]int64 // how many have the count 1, 2, and 3 or more
}

func newKneserNey(train, text []uint32, order, vocab int) *kneserNey {
	m := &kneserNey{order: order, vocab: vocab}
	for n := 1; n <= order; n++ {
		m.counts[n], m.contexts[n] = map[gram]int64{}, map[gram]*followers{}
		for i := n; i <= len(text); i++ {
			m.counts[n][gramOf(text[i-n:i])] = 0
			m.contexts[n][gramOf(text[i-n:i-1])] = &followers{}
		}
	}
	var having [MaxOrder + 1][5]float64 // numbers of n-grams by order and count
	eachGram(train, order, func(n int, ids []uint32, count int64) {
		if count < 5 {
			having[n][count]++
		}
		if _, known := m.counts[n][gramOf(ids)]; known {
			m.counts[n][gramOf(ids)] = count
		}
		if f := m.contexts[n][gramOf(ids[:n-1])]; f != nil {
			f.total += count
			f.of[min(count, 3)]++
		}
	})
	for n := 1; n <= order; n++ {
		h := having[n]
		for k := 1; k <= 3; k++ {
			d := float64(k) / 2 // where train is too small for an estimate
			if h[1] > 0 && h[2] > 0 && h[k] > 0 {
				d = float64(k) - float64(k+1)*h[1]/(h[1]+2*h[2])*h[k+1]/h[k]
			}
			m.discounts[n][k] = min(float64(k), max(0, d))
		}
	}
	return m
}

// eachGram calls f with each different n-gram of train, for n from 1 to order, and its
// count. It sorts the places of train by the tokens up to them, read backwards: the places
// of an n-gram are then side by side, and within them the places of each n-gram that is
// one token longer.
func eachGram(train []uint32, order int, f func(n int, ids []uint32, count int64)) {
	places := make([]int32, len(train))
	for i := range places {
		places[i] = int32(i)
	}
	// shared returns how many tokens up to two places are the same, at most order. The
	// start of train is a token of its own.
	shared := func(a, b int32) int {
		n := 0
		for n < order && int(a)-n >= 0 && int(b)-n >= 0 && train[int(a)-n] == train[int(b)-n] {
			n++
		}
		return n
	}
	slices.SortFunc(places, func(a, b int32) int {
		n := int32(shared(a, b))
		switch {
		case int(n) == order || a == b:
			return 0
		case a-n < 0:
			return -1
		case b-n < 0:
			return 1
		case train[a-n] < train[b-n]:
			return -1
		}
		return 1
	})
	var times, longer [MaxOrder + 2]int64 // of the current n-gram: its places, and the n-grams that end with it
	end := func(at int32, n int) {
		count := longer[n]
		if n == order {
			count = times[n]
		}
		if from := int(at) - n + 1; from >= 0 {
			f(n, train[from:at+1], count)
		}
	}
	for i, at := range places {
		same := 0
		if i > 0 {
			same = shared(places[i-1], at)
			for n := order; n > same; n-- {
				end(places[i-1], n)
			}
		}
		for n := same + 1; n <= order; n++ {
			times[n], longer[n] = 0, 0
			longer[n-1]++
		}
		for n := 1; n <= order; n++ {
			times[n]++
		}
	}
	for n := order; n > 0 && len(places) > 0; n-- {
		end(places[len(places)-1], n)
	}
}

// probability returns the probability of a token of the text after the tokens before it.
func (m *kneserNey) probability(before []uint32, id uint32) float64 {
	p := 1 / float64(m.vocab)
	for n := 1; n <= m.order && n <= len(before)+1; n++ {
		context := before[len(before)-n+1:]
		f := m.contexts[n][gramOf(context)]
		if f == nil || f.total == 0 {
			break // longer contexts were not seen either
		}
		count := m.counts[n][gramOf(append(slices.Clone(context), id))]
		left := 0.0 // mass that the discounts take
		for k := 1; k <= 3; k++ {
			left += m.discounts[n][k] * float64(f.of[k])
		}
		p = (max(0, float64(count)-m.discounts[n][min(count, 3)]) + left*p) / float64(f.total)
	}
	return p
}
