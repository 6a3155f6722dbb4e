package tokenizer

import (
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// regex is a compiled expression. It is safe for concurrent use: the state of a
// search is in a regexMatcher.
type regex struct {
	pattern  string
	prog     []regexInst
	first    *bitset // first characters of matches; nil if a match can be empty
	adjacent *adjacency
}

// bitset has a bit for each character.
type bitset [(unicode.MaxRune + 1 + 63) / 64]uint64

func (b *bitset) has(r rune) bool { return b[uint32(r)>>6]>>(uint32(r)&63)&1 != 0 }

func newBitset(s *charset) *bitset {
	b := new(bitset)
	for _, r := range s.ranges {
		for c := r.lo; c <= r.hi; c++ {
			if c&63 == 0 && c+63 <= r.hi {
				b[c>>6] = ^uint64(0)
				c += 63
				continue
			}
			b[c>>6] |= 1 << (c & 63)
		}
	}
	return b
}

// regexInst is an instruction of a backtracking machine.
type regexInst struct {
	op       regexCode
	set      *bitset
	x, y     int // next instructions
	min, max int // characters that a codeRun repeats, or that a codeLook matches
	behind   bool
	negative bool
	assert   byte
}

type regexCode uint8

const (
	codeMatch    regexCode = iota
	codeSet                // one character of the set
	codeRun                // min to max characters of the set, greedily
	codeKeep               // codeRun without backtracking
	codeSplit              // tries x, then y
	codeJump               // continues at x
	codeLook               // the instructions from here to x are a look-around
	codeAtomic             // the instructions from here to x match once
	codeAssert             // an assertion
	codeMark               // remembers the place in slot x
	codeProgress           // fails if the place has not moved since slot x was set
)

// compileRegex reads and compiles an expression.
func compileRegex(pattern string) (*regex, error) {
	node, err := parseRegex(pattern)
	if err != nil {
		return nil, fmt.Errorf("regular expression %.200q: %w", pattern, err)
	}
	re := compileNode(pattern, node)
	if re == nil {
		return nil, fmt.Errorf("regular expression %.200q is too large", pattern)
	}
	return re, nil
}

// compileNode compiles a parsed expression. It returns nil if the program is too
// large.
func compileNode(pattern string, node *regexNode) *regex {
	c := regexCompiler{sets: map[string]*bitset{}}
	c.node(node)
	c.emit(regexInst{op: codeMatch})
	if c.tooLarge {
		return nil
	}
	re := &regex{pattern: pattern, prog: c.prog, adjacent: newAdjacency(node)}
	if f := firstOf(node); !f.nullable {
		first := &charset{}
		for _, p := range f.first {
			first = first.union(p.set)
		}
		re.first = newBitset(first)
	}
	return re
}

type regexCompiler struct {
	prog     []regexInst
	sets     map[string]*bitset
	marks    int
	tooLarge bool
}

const maxRegexProgram = 100_000

func (c *regexCompiler) emit(i regexInst) int {
	if len(c.prog) >= maxRegexProgram {
		c.tooLarge = true
		return len(c.prog) - 1
	}
	c.prog = append(c.prog, i)
	return len(c.prog) - 1
}

func (c *regexCompiler) bits(s *charset) *bitset {
	key := fmt.Sprint(s.ranges)
	if c.sets[key] == nil {
		c.sets[key] = newBitset(s)
	}
	return c.sets[key]
}

func (c *regexCompiler) node(n *regexNode) {
	switch n.op {
	case opSet:
		c.emit(regexInst{op: codeSet, set: c.bits(n.set)})
	case opCat:
		for _, sub := range n.subs {
			c.node(sub)
		}
	case opAlt:
		var ends []int
		for i, sub := range n.subs {
			if i == len(n.subs)-1 {
				c.node(sub)
				break
			}
			split := c.emit(regexInst{op: codeSplit})
			c.prog[split].x = len(c.prog)
			c.node(sub)
			ends = append(ends, c.emit(regexInst{op: codeJump}))
			c.prog[split].y = len(c.prog)
		}
		for _, end := range ends {
			c.prog[end].x = len(c.prog)
		}
	case opRepeat:
		c.repeat(n)
	case opLook:
		least, most := n.subs[0].width()
		c.inner(n, regexInst{op: codeLook, behind: n.behind, negative: n.negative, min: least, max: most})
	case opAtomic:
		c.inner(n, regexInst{op: codeAtomic})
	case opAssert:
		c.emit(regexInst{op: codeAssert, assert: n.assert})
	}
}

func (c *regexCompiler) inner(n *regexNode, i regexInst) {
	at := c.emit(i)
	c.node(n.subs[0])
	c.emit(regexInst{op: codeMatch})
	c.prog[at].x = len(c.prog)
}

func (c *regexCompiler) repeat(n *regexNode) {
	sub := n.subs[0]
	if sub.op == opSet && !n.lazy {
		code := codeRun
		if n.possessive {
			code = codeKeep
		}
		c.emit(regexInst{op: code, set: c.bits(sub.set), min: n.min, max: n.max})
		return
	}
	if n.possessive {
		plain := *n
		plain.possessive = false
		c.inner(&regexNode{subs: []*regexNode{&plain}}, regexInst{op: codeAtomic})
		return
	}
	for range n.min {
		if c.tooLarge {
			return
		}
		c.node(sub)
	}
	branch := func() int { // tries the body, or leaves it
		return c.emit(regexInst{op: codeSplit})
	}
	patch := func(at, body, leave int) {
		if n.lazy {
			body, leave = leave, body
		}
		c.prog[at].x, c.prog[at].y = body, leave
	}
	if n.max < 0 {
		mark := c.marks
		c.marks++
		at := branch()
		body := c.emit(regexInst{op: codeMark, x: mark})
		c.node(sub)
		c.emit(regexInst{op: codeProgress, x: mark})
		c.emit(regexInst{op: codeJump, x: at})
		patch(at, body, len(c.prog))
		return
	}
	var branches []int
	for range n.max - n.min {
		if c.tooLarge {
			return
		}
		branches = append(branches, branch())
		c.node(sub)
	}
	for _, at := range branches {
		patch(at, at+1, len(c.prog))
	}
}

// regexMatcher searches for one expression in one goroutine.
type regexMatcher struct {
	re    *regex
	text  []byte
	from  int // where the search started (\G)
	stack []regexFrame
	marks []int
	steps int
	work  int // instructions and characters so far, of all searches
	most  int // of work
	err   error
}

// regexFrame is an alternative to try after a failure: the instruction pc at a
// place or, for a run, at all places down to low. A frame with pc < 0 restores a
// mark.
type regexFrame struct{ pc, at, low int }

// errRegexSteps is the error of a search that reaches Oniguruma's limit of
// backtracking steps, or of searches whose work is out of proportion to the text, as
// that of a look-ahead which reads the rest of the text at each character.
var errRegexSteps = errors.New("the regular expression takes too long on this text")

const maxRegexSteps = 10_000_000

// maxRegexWork is the most work for a text of n bytes, of the order of a second or of
// the time that a slow expression takes for plain text.
func maxRegexWork(n int) int { return 1<<24 + 1<<10*n }

func newRegexMatcher(re *regex) *regexMatcher {
	n := 0
	for _, i := range re.prog {
		if i.op == codeMark {
			n = max(n, i.x+1)
		}
	}
	return &regexMatcher{re: re, marks: make([]int, n)}
}

// find returns the leftmost match that starts at or after from.
func (m *regexMatcher) find(text []byte, from int) (start, end int, ok bool) {
	if m.text, m.from = text, from; from == 0 {
		m.work, m.most = 0, maxRegexWork(len(text))
	}
	first := m.re.first
	for at := from; at <= len(text); {
		size := 1
		if at < len(text) {
			r := rune(text[at])
			if r >= utf8.RuneSelf {
				r, size = utf8.DecodeRune(text[at:])
			}
			if first != nil && !first.has(r) {
				at += size
				continue
			}
		} else if first != nil {
			break
		}
		m.steps = 0
		if end, ok := m.run(0, at, -1); ok {
			return at, end, true
		}
		if m.err != nil {
			break
		}
		at += size
	}
	return 0, 0, false
}

// matches calls yield with each match, as Oniguruma's find_iter gives them: an
// empty match does not follow another match directly.
func (m *regexMatcher) matches(text []byte, yield func(start, end int)) {
	last := -1
	for at := 0; at <= len(text); {
		start, end, ok := m.find(text, at)
		if !ok {
			return
		}
		if start == end && start == last {
			if at == len(text) {
				return
			}
			_, n := utf8.DecodeRune(text[at:])
			at += n
			continue
		}
		yield(start, end)
		at, last = end, end
	}
}

// run runs the program from pc at a place in the text. If must is not negative, a
// match has to end at must.
func (m *regexMatcher) run(pc, at, must int) (end int, ok bool) {
	base := len(m.stack)
	defer func() { m.stack = m.stack[:base] }()
	text := m.text
	for {
		failed := false
		if m.work++; m.work > m.most {
			m.err = errRegexSteps
			return 0, false
		}
		inst := &m.re.prog[pc]
		switch inst.op {
		case codeMatch:
			if must < 0 || at == must {
				return at, true
			}
			failed = true
		case codeSet:
			r, size := runeAt(text, at)
			if size == 0 || !inst.set.has(r) {
				failed = true
				break
			}
			at += size
			pc++
		case codeRun, codeKeep:
			low, count := at, 0
			for inst.max < 0 || count < inst.max {
				r, size := runeAt(text, at)
				if size == 0 || !inst.set.has(r) {
					break
				}
				at += size
				if count++; count == inst.min {
					low = at
				}
			}
			m.work += count
			if count < inst.min {
				failed = true
				break
			}
			pc++
			if inst.op == codeRun && at > low {
				m.stack = append(m.stack, regexFrame{pc, at, low})
			}
		case codeSplit:
			m.stack = append(m.stack, regexFrame{inst.y, at, at})
			pc = inst.x
		case codeJump:
			pc = inst.x
		case codeMark:
			m.stack = append(m.stack, regexFrame{-1 - inst.x, m.marks[inst.x], 0})
			m.marks[inst.x] = at
			pc++
		case codeProgress:
			if m.marks[inst.x] == at {
				failed = true // stop repeating an empty match
				break
			}
			pc++
		case codeAtomic:
			if at, ok = m.run(pc+1, at, -1); !ok {
				failed = true
				break
			}
			pc = m.re.prog[pc].x
		case codeLook:
			if m.look(pc, at) == inst.negative {
				failed = true
				break
			}
			pc = inst.x
		case codeAssert:
			if !m.assert(inst.assert, at) {
				failed = true
				break
			}
			pc++
		}
		if !failed {
			continue
		}
		if pc, at, ok = m.back(base); !ok {
			return 0, false
		}
	}
}

// back pops the last frame from the stack.
func (m *regexMatcher) back(base int) (pc, at int, ok bool) {
	for len(m.stack) > base {
		if m.steps++; m.steps > maxRegexSteps {
			m.err = errRegexSteps
			return 0, 0, false
		}
		f := &m.stack[len(m.stack)-1]
		if f.pc < 0 {
			m.marks[-1-f.pc] = f.at
			m.stack = m.stack[:len(m.stack)-1]
			continue
		}
		if f.at > f.low { // backtrack by one character of the run
			_, n := utf8.DecodeLastRune(m.text[f.low:f.at])
			f.at -= n
			pc, at = f.pc, f.at
			if f.at == f.low {
				m.stack = m.stack[:len(m.stack)-1]
			}
			return pc, at, true
		}
		pc, at = f.pc, f.at
		m.stack = m.stack[:len(m.stack)-1]
		return pc, at, true
	}
	return 0, 0, false
}

func runeAt(text []byte, at int) (rune, int) {
	if at >= len(text) {
		return 0, 0
	}
	if b := text[at]; b < utf8.RuneSelf {
		return rune(b), 1
	}
	return utf8.DecodeRune(text[at:])
}

// look reports whether the inner expression of a look-around matches.
func (m *regexMatcher) look(pc, at int) bool {
	if !m.re.prog[pc].behind {
		_, ok := m.run(pc+1, at, -1)
		return ok
	}
	least, most := m.re.prog[pc].min, m.re.prog[pc].max
	for start, width := at, 0; most < 0 || width <= most; width++ {
		if width >= least {
			if _, ok := m.run(pc+1, start, at); ok {
				return true
			}
		}
		if start == 0 || m.err != nil {
			return false
		}
		_, n := utf8.DecodeLastRune(m.text[:start])
		start -= n
	}
	return false
}

func (m *regexMatcher) assert(kind byte, at int) bool {
	word := wordBits()
	before, after := false, false
	if r, n := utf8.DecodeLastRune(m.text[:at]); n > 0 {
		before = word.has(r)
	}
	if r, n := runeAt(m.text, at); n > 0 {
		after = word.has(r)
	}
	switch kind {
	case '^':
		return at == 0 || m.text[at-1] == '\n' && at < len(m.text)
	case '$':
		return at == len(m.text) || m.text[at] == '\n'
	case 'A':
		return at == 0
	case 'z':
		return at == len(m.text)
	case 'Z':
		return at == len(m.text) || at == len(m.text)-1 && m.text[at] == '\n'
	case 'G':
		return at == m.from
	case 'b':
		return before != after
	}
	return before == after
}
