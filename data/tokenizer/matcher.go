package tokenizer

import (
	"bytes"
	"slices"
)

// matcher finds tokens that are written out in text: the leftmost one, and of
// several there the longest. Those of the second list are sought in what the
// first leaves.
type matcher struct {
	lists   [2]tokenList
	longest int
}

type tokenList struct {
	byFirst [256][]addedToken // longest first
	any     bool
}

// newMatcher returns nil if there is nothing to find.
func newMatcher(first, second []addedToken) *matcher {
	m := new(matcher)
	for i, list := range [][]addedToken{first, second} {
		for _, a := range list {
			of := &m.lists[i].byFirst[a.Content[0]]
			*of = append(*of, a)
			m.lists[i].any = true
			m.longest = max(m.longest, len(a.Content))
		}
		for b := range m.lists[i].byFirst {
			slices.SortStableFunc(m.lists[i].byFirst[b], func(a, b addedToken) int { return len(b.Content) - len(a.Content) })
		}
	}
	if m.longest == 0 {
		return nil
	}
	return m
}

// at returns the token that text has at i.
func (l *tokenList) at(text []byte, i int) (addedToken, bool) {
	for _, a := range l.byFirst[text[i]] {
		if len(text)-i >= len(a.Content) && string(text[i:i+len(a.Content)]) == a.Content {
			return a, true
		}
	}
	return addedToken{}, false
}

// split calls plain with the text between tokens and token with each token.
func (m *matcher) split(text []byte, plain func([]byte), token func(uint32)) {
	m.splitList(0, text, func(rest []byte) { m.splitList(1, rest, plain, token) }, token)
}

func (m *matcher) splitList(list int, text []byte, plain func([]byte), token func(uint32)) {
	from := 0
	if m.lists[list].any {
		for i := 0; i < len(text); {
			a, ok := m.lists[list].at(text, i)
			if !ok {
				i++
				continue
			}
			if from < i {
				plain(text[from:i])
			}
			token(a.ID)
			i += len(a.Content)
			from = i
		}
	}
	if from < len(text) {
		plain(text[from:])
	}
}

// crosses tells whether a token may stand across a place in text.
func (m *matcher) crosses(text []byte, place int) bool {
	around := text[max(0, place-m.longest+1):min(len(text), place+m.longest-1)]
	if place+m.longest-1 > len(text) {
		return true // it may end beyond text
	}
	for i := range m.lists {
		for _, tokens := range m.lists[i].byFirst {
			for _, a := range tokens {
				if bytes.Contains(around, []byte(a.Content)) {
					return true
				}
			}
		}
	}
	return false
}
