package data

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/bits"
	"slices"
)

// MaxOrder is the largest order of an n-gram model.
const MaxOrder = 5

// KneserNeyPPL returns the perplexities on splits of an n-gram model of the train split,
// with modified Kneser-Ney smoothing, interpolated (Chen & Goodman 1999): what counting
// alone achieves. As for other models, a split's first token is not scored. It returns when
// ctx ends.
func (d *Dataset) KneserNeyPPL(ctx context.Context, order int, splits ...string) (map[string]float64, error) {
	if order < 1 || order > MaxOrder {
		return nil, fmt.Errorf("order %d: expected 1 to %d", order, MaxOrder)
	}
	train, ok := d.Split("train")
	if !ok {
		return nil, fmt.Errorf("dataset %s has no train split", d.Name())
	}
	counted, err := train.ids()
	if err != nil {
		return nil, err
	}
	texts := make([][]uint32, len(splits))
	for i, split := range splits {
		text, ok := d.Split(split)
		if !ok {
			return nil, fmt.Errorf("dataset %s has no %s split", d.Name(), split)
		}
		if texts[i], err = text.ids(); err != nil {
			return nil, err
		}
	}
	// What still counts after ctx has ended reads copies: the dataset may be closed then.
	vocab, done := d.Vocab(), make(chan map[string]float64, 1)
	go func() {
		m, ppl := newKneserNey(counted, order, vocab, texts...), map[string]float64{}
		for i, split := range splits {
			ppl[split] = m.perplexity(texts[i])
		}
		done <- ppl
	}()
	select {
	case ppl := <-done:
		return ppl, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// NGramSize is about how many bytes KneserNeyPPL takes for splits.
func (d *Dataset) NGramSize(splits ...string) int64 {
	const counted, scored = 24, 800 // bytes for each token
	size := counted * d.Info().Splits["train"].Tokens
	for _, split := range splits {
		size += scored * d.Info().Splits[split].Tokens
	}
	return size
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

// kneserNey is an n-gram model that knows the n-grams of a few texts. The count of an
// n-gram of the highest order is how often it is in train, of a lower order the number of
// different tokens before it.
type kneserNey struct {
	order, vocab int
	counts       [MaxOrder + 1]map[gram]*int64     // by order
	contexts     [MaxOrder + 1]map[gram]*followers // by the order of the n-grams that begin with them
	discounts    [MaxOrder + 1][4]float64          // by order and count; the last is of all counts from 3 on
}

// followers describe the n-grams that begin with a context.
type followers struct {
	total int64    // sum of their counts
	of    [4]int64 // how many have the count 1, 2, and 3 or more
}

func newKneserNey(train []uint32, order, vocab int, texts ...[]uint32) *kneserNey {
	m := &kneserNey{order: order, vocab: vocab}
	for n := 1; n <= order; n++ {
		m.counts[n], m.contexts[n] = map[gram]*int64{}, map[gram]*followers{}
		for _, text := range texts {
			for i := n; i <= len(text); i++ {
				if g := gramOf(text[i-n : i]); m.counts[n][g] == nil {
					m.counts[n][g] = new(int64)
				}
				if g := gramOf(text[i-n : i-1]); m.contexts[n][g] == nil {
					m.contexts[n][g] = &followers{}
				}
			}
		}
	}
	var having [MaxOrder + 1][5]float64 // numbers of n-grams by order and count
	// What the model knows of the current n-grams. It knows no n-gram whose end it does
	// not know, which saves most of the look-ups.
	count, context := [MaxOrder + 1]*int64{new(int64)}, [MaxOrder + 1]*followers{{}}
	eachGram(train, order, func(n int, ids []uint32) {
		count[n], context[n] = nil, nil
		if count[n-1] != nil {
			count[n] = m.counts[n][gramOf(ids)]
		}
		if context[n-1] != nil {
			context[n] = m.contexts[n][gramOf(ids[:n-1])]
		}
	}, func(n int, times int64) {
		if times < 5 {
			having[n][times]++
		}
		if count[n] != nil {
			*count[n] = times
		}
		if f := context[n]; f != nil {
			f.total += times
			f.of[min(times, 3)]++
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

// A place is the end of n-grams in a text. Its key holds the last tokens up to it, the
// last one first, as many as fit: most places are ordered by their keys.
type place struct {
	key uint64
	at  int32
}

// eachGram calls begin with each different n-gram of train, for n from 1 to order, and
// later end with its count. It sorts the places of train by the tokens up to them, read
// backwards: the places of an n-gram are then side by side, and within them the places of
// each n-gram that is one token longer.
func eachGram(train []uint32, order int, begin func(n int, ids []uint32), end func(n int, count int64)) {
	if len(train) == 0 {
		return
	}
	width := bits.Len32(slices.Max(train)) + 1 // of an id + 1; 0 is before the start
	fit := min(order, 64/width)
	places := make([]place, len(train))
	for i := range places {
		key := uint64(0)
		for n := range fit {
			key <<= width
			if i >= n {
				key |= uint64(train[i-n]) + 1
			}
		}
		places[i] = place{key, int32(i)}
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
	slices.SortFunc(places, func(a, b place) int {
		if a.key != b.key {
			return cmp.Compare(a.key, b.key)
		}
		n := int32(shared(a.at, b.at))
		switch {
		case int(n) == order || a.at == b.at:
			return 0
		case a.at-n < 0:
			return -1
		case b.at-n < 0:
			return 1
		}
		return cmp.Compare(train[a.at-n], train[b.at-n])
	})
	var times, longer [MaxOrder + 2]int64 // of the current n-gram: its places, and the n-grams that end with it
	open := 0                             // the order of the longest current n-gram
	for i, p := range places {
		same := 0
		if i > 0 {
			same = shared(places[i-1].at, p.at)
		}
		endAbove(same, &open, order, &times, &longer, end)
		for n := same + 1; n <= order; n++ {
			times[n], longer[n] = 0, 0
			longer[n-1]++
			if from := int(p.at) - n + 1; from >= 0 {
				begin(n, train[from:p.at+1])
				open = n
			}
		}
		for n := 1; n <= order; n++ {
			times[n]++
		}
	}
	endAbove(0, &open, order, &times, &longer, end)
}

// endAbove ends the current n-grams that are longer than same.
func endAbove(same int, open *int, order int, times, longer *[MaxOrder + 2]int64, end func(n int, count int64)) {
	for ; *open > same; *open-- {
		count := longer[*open]
		if *open == order {
			count = times[*open]
		}
		end(*open, count)
	}
}

// perplexity is the perplexity of one of the model's texts.
func (m *kneserNey) perplexity(text []uint32) float64 {
	if len(text) < 2 {
		return math.NaN()
	}
	nats := 0.0
	for i := 1; i < len(text); i++ {
		nats -= math.Log(m.probability(text[:i], text[i]))
	}
	return math.Exp(nats / float64(len(text)-1))
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
		g := gramOf(context)
		g[n-1] = id
		count := *m.counts[n][g]
		left := 0.0 // mass that the discounts take
		for k := 1; k <= 3; k++ {
			left += m.discounts[n][k] * float64(f.of[k])
		}
		p = (max(0, float64(count)-m.discounts[n][min(count, 3)]) + left*p) / float64(f.total)
	}
	return p
}
