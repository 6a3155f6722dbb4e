package tokenizer

// adjacency answers where a text may be cut without changing an expression's
// matches. It is Glushkov's follow relation of the expression; look-ahead and
// look-behind count as matched text. If no two adjacent positions accept the
// characters a and b, no match contains a followed by b or looks from one to the
// other. So the matches on each side of the place between a and b do not depend on
// the other side.
type adjacency struct {
	edges    []edge
	alone    *bitset // characters that an alternative matches alone: a search never skips them
	anchored bool    // an assertion tests the start or end of the text: no place is safe
}

type edge struct{ left, right *bitset }

// follows reports whether a match may contain left followed by right.
func (a *adjacency) follows(left, right rune) bool {
	if a.anchored {
		return true
	}
	for _, e := range a.edges {
		if e.left.has(left) && e.right.has(right) {
			return true
		}
	}
	return false
}

// position is a part of an expression that matches one character.
type position struct{ set *charset }

// reach lists the first and last positions of a part of an expression.
type reach struct {
	nullable    bool
	first, last []position
}

type followEdge struct{ left, right *charset }

type follower struct {
	edges    []followEdge
	anchored bool
}

func firstOf(n *regexNode) reach { return new(follower).reach(n) }

func newAdjacency(n *regexNode) *adjacency {
	f := new(follower)
	f.reach(n)
	sets := regexCompiler{sets: map[string]*bitset{}}
	a := &adjacency{anchored: f.anchored}
	seen := map[[2]*bitset]bool{}
	for _, e := range f.edges {
		pair := [2]*bitset{sets.bits(e.left), sets.bits(e.right)}
		if !seen[pair] && !e.left.empty() && !e.right.empty() {
			seen[pair] = true
			a.edges = append(a.edges, edge{pair[0], pair[1]})
		}
	}
	alone := &charset{}
	for _, s := range alones(n) {
		alone = alone.union(s)
	}
	a.alone = newBitset(alone)
	return a
}

// join adds an edge from each position of left to each position of right.
func (f *follower) join(left, right []position) {
	for _, l := range left {
		for _, r := range right {
			f.edges = append(f.edges, followEdge{l.set, r.set})
		}
	}
}

func (f *follower) reach(n *regexNode) reach {
	switch n.op {
	case opSet:
		at := []position{{n.set}}
		return reach{false, at, at}
	case opCat:
		all := reach{nullable: true}
		for _, sub := range n.subs {
			r := f.reach(sub)
			f.join(all.last, r.first)
			if all.nullable {
				all.first = append(all.first[:len(all.first):len(all.first)], r.first...)
			}
			if r.nullable {
				all.last = append(all.last[:len(all.last):len(all.last)], r.last...)
			} else {
				all.last = r.last
			}
			all.nullable = all.nullable && r.nullable
		}
		return all
	case opAlt:
		var all reach
		for i, sub := range n.subs {
			r := f.reach(shadowed(n.subs[:i], sub))
			all.first = append(all.first, r.first...)
			all.last = append(all.last, r.last...)
			all.nullable = all.nullable || r.nullable
		}
		return all
	case opRepeat:
		r := f.reach(n.subs[0])
		if n.max < 0 || n.max > 1 {
			f.join(r.last, r.first)
		}
		r.nullable = r.nullable || n.min == 0
		return r
	case opAtomic:
		return f.reach(n.subs[0])
	case opLook:
		r := f.reach(n.subs[0])
		if n.behind {
			return reach{nullable: true, last: r.last}
		}
		return reach{nullable: true, first: r.first}
	case opAssert:
		f.anchored = true
	}
	return reach{nullable: true}
}

// shadowed narrows an alternative by the earlier ones. Where \s*[\r\n]+ comes
// before \s+(?!\S), the second is tried only at white space without a line end: of
// A*B+ before C+, with C within A, the run C+ takes no character of B.
func shadowed(before []*regexNode, n *regexNode) *regexNode {
	head, rest := n, []*regexNode(nil)
	if n.op == opCat {
		head, rest = n.subs[0], n.subs[1:]
	}
	if !isRun(head, 1) {
		return n
	}
	taken := &charset{}
	for _, b := range before {
		if b.op == opCat && len(b.subs) == 2 && isRun(b.subs[0], 0) && isRun(b.subs[1], 1) &&
			head.subs[0].set.minus(b.subs[0].subs[0].set).empty() {
			taken = taken.union(b.subs[1].subs[0].set)
		}
	}
	if taken.empty() {
		return n
	}
	narrow := *head
	narrow.subs = []*regexNode{{op: opSet, set: head.subs[0].set.minus(taken)}}
	return &regexNode{op: opCat, subs: append([]*regexNode{&narrow}, rest...)}
}

// isRun reports whether a node greedily repeats one set from times or more.
func isRun(n *regexNode, from int) bool {
	return n.op == opRepeat && n.min == from && n.max < 0 && !n.lazy && !n.possessive && n.subs[0].op == opSet
}

// alones returns the sets from which an expression can match a single character,
// whatever text surrounds it.
func alones(n *regexNode) (sets []*charset) {
	switch n.op {
	case opSet:
		return []*charset{n.set}
	case opAlt:
		for _, sub := range n.subs {
			sets = append(sets, alones(sub)...)
		}
	case opRepeat:
		if n.min <= 1 {
			return alones(n.subs[0])
		}
	case opCat:
		for i, sub := range n.subs {
			others := true
			for j, o := range n.subs {
				others = others && (j == i || skippable(o))
			}
			if !others {
				continue
			}
			for _, s := range alones(sub) {
				for j, o := range n.subs {
					if j != i && o.possessive { // it may consume the character and never backtrack
						s = s.minus(o.subs[0].set)
					}
				}
				sets = append(sets, s)
			}
		}
	}
	return sets
}

// skippable reports whether a part may match the empty string without look-around.
func skippable(n *regexNode) bool {
	return n.op == opEmpty || n.op == opRepeat && n.min == 0 && (!n.possessive || n.subs[0].op == opSet)
}
