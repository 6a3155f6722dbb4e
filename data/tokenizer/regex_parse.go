package tokenizer

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Split expressions are written for Oniguruma, in its Ruby-like syntax: with
// look-ahead, possessive and atomic parts, POSIX brackets and set operations in
// classes. Go's regexp has none of these. github.com/dlclark/regexp2 has
// look-ahead, but reads .NET's syntax (no a++, other classes, other case folding),
// wants text as runes, and does not expose which characters a match may contain,
// which adjacency needs to cut long texts. So this package has an engine of its
// own: regex_parse.go reads an expression, regex_match.go runs it,
// regex_adjacent.go finds where text may be cut.

// regexNode is a part of a parsed expression.
type regexNode struct {
	op         regexOp
	set        *charset     // opSet
	subs       []*regexNode // opCat, opAlt: all of them; opRepeat, opLook, opAtomic: one
	min, max   int          // opRepeat; max < 0 is no limit
	lazy       bool         // opRepeat: tries the fewest first
	possessive bool         // opRepeat: does not backtrack
	behind     bool         // opLook
	negative   bool         // opLook
	assert     byte         // opAssert: the letter of the assertion, such as 'b' or '^'
}

// width returns the least and the largest number of characters that n matches; the
// largest is negative if there is no limit.
func (n *regexNode) width() (least, most int) {
	switch n.op {
	case opSet:
		return 1, 1
	case opCat, opAtomic:
		for _, sub := range n.subs {
			a, b := sub.width()
			least += a
			if most >= 0 {
				most += b
			}
			if b < 0 {
				most = -1
			}
		}
	case opAlt:
		least = math.MaxInt32
		for _, sub := range n.subs {
			a, b := sub.width()
			least = min(least, a)
			if most >= 0 {
				most = max(most, b)
			}
			if b < 0 {
				most = -1
			}
		}
	case opRepeat:
		a, b := n.subs[0].width()
		least, most = min(n.min*a, math.MaxInt32), b*n.max
		if b != 0 && (b < 0 || n.max < 0 || most > math.MaxInt32) {
			most = -1
		}
	}
	return least, most
}

type regexOp uint8

const (
	opEmpty regexOp = iota
	opSet
	opCat
	opAlt
	opRepeat
	opLook
	opAtomic
	opAssert
)

// regexFlags are the options that (?i), (?m) and (?x) switch.
type regexFlags struct{ fold, dotAll, extended bool }

type regexParser struct {
	text  string
	at    int
	depth int
	size  int // number of nodes so far, with repeats expanded
	flags regexFlags
}

const (
	maxRegexDepth  = 100
	maxRegexRepeat = 1000
	maxRegexSize   = 20_000
)

// parseRegex reads an expression. An unsupported part is an error that names it.
func parseRegex(text string) (*regexNode, error) {
	if !utf8.ValidString(text) {
		return nil, errors.New("it is not UTF-8")
	}
	p := &regexParser{text: text}
	node, err := p.alternatives()
	if err != nil {
		return nil, fmt.Errorf("at character %d: %w", utf8.RuneCountInString(text[:p.at])+1, err)
	}
	if p.at < len(text) {
		return nil, fmt.Errorf("at character %d: a ) without its (", utf8.RuneCountInString(text[:p.at])+1)
	}
	return node, nil
}

func (p *regexParser) more() bool { return p.at < len(p.text) }

func (p *regexParser) rest() string { return p.text[p.at:] }

func (p *regexParser) accept(s string) bool {
	if strings.HasPrefix(p.rest(), s) {
		p.at += len(s)
		return true
	}
	return false
}

func (p *regexParser) next() rune {
	r, n := utf8.DecodeRuneInString(p.rest())
	p.at += n
	return r
}

func (p *regexParser) alternatives() (*regexNode, error) {
	if p.depth++; p.depth > maxRegexDepth {
		return nil, errors.New("groups are nested too deeply")
	}
	defer func(flags regexFlags) { p.depth--; p.flags = flags }(p.flags)
	var all []*regexNode
	for {
		node, err := p.sequence()
		if err != nil {
			return nil, err
		}
		all = append(all, node)
		if !p.accept("|") {
			break
		}
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return &regexNode{op: opAlt, subs: all}, nil
}

func (p *regexParser) sequence() (*regexNode, error) {
	var all []*regexNode
	for p.more() && p.text[p.at] != '|' && p.text[p.at] != ')' {
		node, err := p.item()
		if err != nil {
			return nil, err
		}
		if node == nil {
			continue
		}
		if node, err = p.quantified(node); err != nil {
			return nil, err
		}
		all = append(all, node)
	}
	if err := p.checkFolds(all); err != nil {
		return nil, err
	}
	switch len(all) {
	case 0:
		return &regexNode{op: opEmpty}, nil
	case 1:
		return all[0], nil
	}
	return &regexNode{op: opCat, subs: all}, nil
}

// foldedPairs are pairs of letters that Oniguruma, ignoring case, matches with one
// character: "ss" with ß, "st" with a ligature.
var foldedPairs = []string{"ss", "ff", "fi", "fl", "st"}

// checkFolds returns an error for pairs of letters that fold to one character.
func (p *regexParser) checkFolds(all []*regexNode) error {
	if !p.flags.fold {
		return nil
	}
	for i := 1; i < len(all); i++ {
		for _, pair := range foldedPairs {
			if all[i-1].op == opSet && all[i].op == opSet && all[i-1].set.has(rune(pair[0])) && all[i].set.has(rune(pair[1])) &&
				all[i-1].set.size() < 8 && all[i].set.size() < 8 {
				return fmt.Errorf("%q without regard to case is one character in some scripts, which is not supported", pair)
			}
		}
	}
	return nil
}

// quantified parses a node's quantifier: * + ? {n,m}. A ? makes it lazy; a + makes
// it possessive, except after {n,m}.
func (p *regexParser) quantified(node *regexNode) (*regexNode, error) {
	for p.more() {
		lo, hi, interval := 0, -1, false
		switch c := p.text[p.at]; c {
		case '*':
			p.at++
		case '+':
			lo = 1
			p.at++
		case '?':
			hi = 1
			p.at++
		case '{':
			var ok bool
			if lo, hi, ok = p.interval(); !ok {
				return node, nil
			}
			interval = true
		default:
			return node, nil
		}
		if lo > maxRegexRepeat || hi > maxRegexRepeat || hi >= 0 && hi < lo {
			return nil, fmt.Errorf("the interval {%d,%d} is out of range", lo, hi)
		}
		if node.op == opAssert || node.op == opLook {
			return nil, errors.New("a repeated assertion is not supported")
		}
		repeat := &regexNode{op: opRepeat, subs: []*regexNode{node}, min: lo, max: hi}
		switch {
		case p.accept("?"):
			repeat.lazy = true
			if interval && lo == hi { // {n}? repeats n times or zero times
				repeat.lazy = false
				repeat = &regexNode{op: opRepeat, subs: []*regexNode{repeat}, max: 1}
			}
		case !interval && p.accept("+"):
			repeat.possessive = true
		}
		if p.size += max(lo, hi, 1); p.size > maxRegexSize {
			return nil, errors.New("the expression repeats too much")
		}
		node = repeat
	}
	return node, nil
}

// interval reads {n}, {n,}, {,m} or {n,m}; other braces are characters.
func (p *regexParser) interval() (lo, hi int, ok bool) {
	inner, _, found := strings.Cut(p.rest()[1:], "}")
	if !found || len(inner) > 12 {
		return 0, 0, false
	}
	low, high, ranged := strings.Cut(inner, ",")
	if !ranged {
		high = low
	}
	if low == "" && high == "" {
		return 0, 0, false
	}
	var err error
	if lo, err = strconv.Atoi(low); err != nil && low != "" || strings.ContainsAny(inner, "+- ") {
		return 0, 0, false
	}
	hi = -1
	if high != "" {
		if hi, err = strconv.Atoi(high); err != nil {
			return 0, 0, false
		}
	}
	p.at += len(inner) + 2
	return lo, hi, true
}

// item parses one character, class, group or assertion. It returns nil for a
// comment and for a switch of options.
func (p *regexParser) item() (*regexNode, error) {
	switch c := p.text[p.at]; {
	case c == '(':
		p.at++
		return p.group()
	case c == '[':
		p.at++
		set, err := p.class()
		return p.setNode(set), err
	case c == '.':
		p.at++
		if p.flags.dotAll {
			return p.setNode(anyChar()), nil
		}
		return p.setNode(newCharset('\n', '\n').negate()), nil
	case c == '^' || c == '$':
		p.at++
		return &regexNode{op: opAssert, assert: c}, nil
	case c == '\\':
		p.at++
		return p.escape()
	case p.flags.extended && strings.IndexByte(" \t\n\r\f\v", c) >= 0:
		p.at++
		return nil, nil
	case p.flags.extended && c == '#':
		_, rest, _ := strings.Cut(p.rest(), "\n")
		p.at = len(p.text) - len(rest)
		return nil, nil
	case c == '*' || c == '+' || c == '?':
		return nil, fmt.Errorf("%q has nothing to repeat", c)
	}
	return p.literal(p.next()), nil
}

func (p *regexParser) literal(r rune) *regexNode { return p.setNode(newCharset(r, r)) }

func (p *regexParser) setNode(set *charset) *regexNode {
	if set != nil && p.flags.fold {
		set = set.fold()
	}
	p.size++
	return &regexNode{op: opSet, set: set}
}

// group parses a group after its opening bracket. Capturing groups only group.
func (p *regexParser) group() (*regexNode, error) {
	wrap := func(n *regexNode) *regexNode { return n }
	look := func(behind, negative bool) func(*regexNode) *regexNode {
		return func(n *regexNode) *regexNode {
			return &regexNode{op: opLook, subs: []*regexNode{n}, behind: behind, negative: negative}
		}
	}
	outer := p.flags
	switch {
	case !p.accept("?"):
	case p.accept("#"):
		_, rest, ok := strings.Cut(p.rest(), ")")
		if !ok {
			return nil, errors.New("a comment does not end")
		}
		p.at = len(p.text) - len(rest)
		return nil, nil
	case p.accept(":"):
	case p.accept(">"):
		wrap = func(n *regexNode) *regexNode { return &regexNode{op: opAtomic, subs: []*regexNode{n}} }
	case p.accept("="):
		wrap = look(false, false)
	case p.accept("!"):
		wrap = look(false, true)
	case p.accept("<="):
		wrap = look(true, false)
	case p.accept("<!"):
		wrap = look(true, true)
	case strings.HasPrefix(p.rest(), "<") || strings.HasPrefix(p.rest(), "'"):
		end := strings.IndexAny(p.rest()[1:], ">'")
		if end < 1 {
			return nil, errors.New("the name of a group does not end")
		}
		p.at += end + 2
	default:
		ends, err := p.options()
		if err != nil {
			return nil, err
		}
		if ends { // (?i) applies up to the end of its group
			flags := p.flags
			node, err := p.alternatives()
			p.flags = flags
			return node, err
		}
	}
	node, err := p.alternatives()
	p.flags = outer
	if err != nil {
		return nil, err
	}
	if !p.accept(")") {
		return nil, errors.New("a group does not end")
	}
	group := wrap(node)
	if group.op == opLook && group.behind {
		group.subs[0] = latestStart(group.subs[0])
		if _, most := group.subs[0].width(); most < 0 || most > widestLookBehind {
			return nil, fmt.Errorf("a look-behind of more than %d characters is not supported", widestLookBehind)
		}
	}
	return group, nil
}

// latestStart shortens the repetitions that a look-behind starts with: it may start
// anywhere, so that (?<=a+b) finds what (?<=ab) finds.
func latestStart(n *regexNode) *regexNode {
	short := *n
	switch {
	case n.op == opRepeat && !n.possessive && n.min == 0:
		return &regexNode{op: opEmpty}
	case n.op == opRepeat && !n.possessive:
		short.max = n.min
	case n.op == opCat || n.op == opAlt:
		short.subs = slices.Clone(n.subs)
		for i, sub := range n.subs {
			short.subs[i] = latestStart(sub)
			if n.op == opCat && short.subs[i].op != opEmpty {
				break
			}
		}
	}
	return &short
}

// widestLookBehind bounds the time of a look-behind, which tries every start that its
// width allows. PCRE2 has the same bound.
const widestLookBehind = 255

// options reads (?imx-imx: or (?imx-imx); ends is true for the second.
func (p *regexParser) options() (ends bool, err error) {
	on := true
	for p.more() {
		switch c := p.next(); c {
		case '-':
			on = false
		case 'i':
			p.flags.fold = on
		case 'm':
			p.flags.dotAll = on
		case 'x':
			p.flags.extended = on
		case ':':
			return false, nil
		case ')':
			return true, nil
		default:
			return false, fmt.Errorf("the group option %q is not supported", c)
		}
	}
	return false, errors.New("a group does not end")
}

// escape parses an escape after its backslash, outside a class.
func (p *regexParser) escape() (*regexNode, error) {
	if !p.more() {
		return nil, errors.New("a \\ stands at the end")
	}
	switch c := p.text[p.at]; c {
	case 'A', 'z', 'Z', 'b', 'B', 'G':
		p.at++
		return &regexNode{op: opAssert, assert: c}, nil
	case 'R': // a line end, \r\n first
		p.at++
		return &regexNode{op: opAtomic, subs: []*regexNode{{op: opAlt, subs: []*regexNode{
			{op: opCat, subs: []*regexNode{p.literal('\r'), p.literal('\n')}},
			p.setNode(lineEnds()),
		}}}}, nil
	case 'N':
		p.at++
		return p.setNode(newCharset('\n', '\n').negate()), nil
	case 'O':
		p.at++
		return p.setNode(anyChar()), nil
	case 'X', 'K', 'k', 'g', 'y', 'Y', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return nil, fmt.Errorf("\\%c is not supported", c)
	}
	set, err := p.escapedSet()
	return p.setNode(set), err
}

// escapedSet parses an escape that denotes a set of characters, inside or outside
// a class.
func (p *regexParser) escapedSet() (*charset, error) {
	c := p.next()
	switch c {
	case 's', 'S', 'w', 'W', 'd', 'D', 'h', 'H':
		set := namedSet(map[rune]string{'s': "space", 'w': "word", 'd': "digit", 'h': "xdigit"}[unicode.ToLower(c)])
		if unicode.ToLower(c) == 'w' {
			set = set.union(oddWords)
		}
		if unicode.IsUpper(c) {
			set = set.negate()
		}
		return set, nil
	case 'p', 'P':
		if !p.accept("{") {
			return newCharset(c, c), nil // \pL is the letters p and L
		}
		name, _, ok := strings.Cut(p.rest(), "}")
		if !ok {
			return nil, errors.New("the name of a property does not end")
		}
		p.at += len(name) + 1
		plain, negated := strings.CutPrefix(name, "^")
		set := namedSet(plain)
		if set == nil {
			return nil, fmt.Errorf("the character property {%s} is not known", name)
		}
		if negated != (c == 'P') {
			set = set.negate()
		}
		return set, nil
	}
	r, err := p.escapedRune(c)
	if err != nil {
		return nil, err
	}
	return newCharset(r, r), nil
}

func (p *regexParser) escapedRune(c rune) (rune, error) {
	hex := func(text string) (rune, error) {
		n, err := strconv.ParseUint(text, 16, 32)
		if err != nil || n > unicode.MaxRune {
			return 0, fmt.Errorf("%q is no character in hexadecimal digits", text)
		}
		return rune(n), nil
	}
	switch c {
	case 't':
		return '\t', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 'f':
		return '\f', nil
	case 'v':
		return '\v', nil
	case 'a':
		return '\a', nil
	case 'e':
		return 0x1b, nil
	case 'x':
		if p.accept("{") {
			digits, _, ok := strings.Cut(p.rest(), "}")
			if !ok {
				return 0, errors.New("\\x{ does not end")
			}
			p.at += len(digits) + 1
			return hex(digits)
		}
		n := 0
		for n < 2 && n < len(p.rest()) && strings.IndexByte("0123456789abcdefABCDEF", p.rest()[n]) >= 0 {
			n++
		}
		digits := p.rest()[:n]
		p.at += n
		r, err := hex(digits)
		if err == nil && r >= utf8.RuneSelf {
			return 0, fmt.Errorf("\\x%s is a byte that is not ASCII, which is not supported", digits)
		}
		return r, err
	case 'u':
		if len(p.rest()) < 4 {
			return 0, errors.New("\\u wants four digits")
		}
		digits := p.rest()[:4]
		p.at += 4
		return hex(digits)
	case '0':
		n := 0
		for n < 2 && n < len(p.rest()) && '0' <= p.rest()[n] && p.rest()[n] <= '7' {
			n++
		}
		octal, _ := strconv.ParseUint("0"+p.rest()[:n], 8, 16)
		p.at += n
		return rune(octal), nil
	case 'c', 'C', 'M':
		return 0, fmt.Errorf("\\%c is not supported", c)
	}
	return c, nil
}

// class reads a character class after its opening bracket.
func (p *regexParser) class() (*charset, error) {
	if p.depth++; p.depth > maxRegexDepth {
		return nil, errors.New("classes are nested too deeply")
	}
	defer func() { p.depth-- }()
	negated := p.accept("^")
	set, whole := &charset{}, (*charset)(nil) // whole is the intersection of the && operands so far
	for first := true; ; first = false {
		if !p.more() {
			return nil, errors.New("a class does not end")
		}
		if !first && p.accept("]") {
			break
		}
		if p.accept("&&") {
			if whole != nil {
				set = set.intersect(whole)
			}
			whole, set = set, &charset{}
			continue
		}
		part, single, err := p.classPart()
		if err != nil {
			return nil, err
		}
		if single >= 0 && strings.HasPrefix(p.rest(), "-") && !strings.HasPrefix(p.rest(), "-]") {
			back := p.at
			p.at++
			_, last, err := p.classPart()
			if err != nil {
				return nil, err
			}
			if last < 0 { // as in [a-\d]: the - is literal
				p.at = back
			} else if last < single {
				return nil, fmt.Errorf("the range %c-%c is empty", single, last)
			} else {
				part = newCharset(single, last)
			}
		}
		set = set.union(part)
	}
	if whole != nil {
		set = set.intersect(whole)
	}
	if p.flags.fold {
		set = set.fold()
	}
	if negated {
		set = set.negate()
	}
	return set, nil
}

// classPart reads one element of a class; single is its character, or -1 if it is
// a set.
func (p *regexParser) classPart() (set *charset, single rune, err error) {
	if strings.HasPrefix(p.rest(), "[:") {
		if name, _, ok := strings.Cut(p.rest()[2:], ":]"); ok {
			plain, negated := strings.CutPrefix(name, "^")
			if set := posixSet(plain); set != nil {
				p.at += len(name) + 4
				if negated {
					set = set.negate()
				}
				return set, -1, nil
			}
		}
	}
	if p.accept("[") {
		set, err := p.class()
		return set, -1, err
	}
	if !p.more() {
		return nil, 0, errors.New("a class does not end")
	}
	c := p.next()
	if c != '\\' {
		return newCharset(c, c), c, nil
	}
	if !p.more() {
		return nil, 0, errors.New("a \\ stands at the end")
	}
	if p.accept("b") {
		return newCharset('\b', '\b'), '\b', nil
	}
	if strings.IndexByte("RXKkg", p.text[p.at]) >= 0 {
		return nil, 0, fmt.Errorf("\\%c in a class is not supported", p.text[p.at])
	}
	if set, err = p.escapedSet(); err != nil {
		return nil, 0, err
	}
	if len(set.ranges) == 1 && set.ranges[0].lo == set.ranges[0].hi {
		return set, set.ranges[0].lo, nil
	}
	return set, -1, nil
}

// charset is a set of characters: ascending ranges with gaps between them.
type charset struct{ ranges []charRange }

type charRange struct{ lo, hi rune }

func newCharset(lo, hi rune) *charset { return &charset{[]charRange{{lo, hi}}} }

func anyChar() *charset { return newCharset(0, unicode.MaxRune) }

func lineEnds() *charset {
	return newCharset('\n', '\r').union(newCharset(0x85, 0x85)).union(newCharset(0x2028, 0x2029))
}

func (s *charset) has(r rune) bool {
	_, found := slices.BinarySearchFunc(s.ranges, r, func(a charRange, r rune) int {
		switch {
		case a.hi < r:
			return -1
		case a.lo > r:
			return 1
		}
		return 0
	})
	return found
}

func (s *charset) size() (n int) {
	for _, r := range s.ranges {
		n += int(r.hi-r.lo) + 1
	}
	return n
}

func (s *charset) union(o *charset) *charset {
	all := slices.Concat(s.ranges, o.ranges)
	slices.SortFunc(all, func(a, b charRange) int { return int(a.lo - b.lo) })
	joined := &charset{}
	for _, r := range all {
		if n := len(joined.ranges); n > 0 && r.lo <= joined.ranges[n-1].hi+1 {
			joined.ranges[n-1].hi = max(joined.ranges[n-1].hi, r.hi)
		} else {
			joined.ranges = append(joined.ranges, r)
		}
	}
	return joined
}

func (s *charset) negate() *charset {
	rest, from := &charset{}, rune(0)
	for _, r := range s.ranges {
		if from < r.lo {
			rest.ranges = append(rest.ranges, charRange{from, r.lo - 1})
		}
		from = r.hi + 1
	}
	if from <= unicode.MaxRune {
		rest.ranges = append(rest.ranges, charRange{from, unicode.MaxRune})
	}
	return rest
}

func (s *charset) intersect(o *charset) *charset { return s.negate().union(o.negate()).negate() }

func (s *charset) minus(o *charset) *charset { return s.intersect(o.negate()) }

func (s *charset) empty() bool { return len(s.ranges) == 0 }

// fold adds the characters that differ only in case from a character of s.
func (s *charset) fold() *charset {
	more := &charset{}
	for _, r := range s.ranges {
		if r.hi-r.lo > 1<<16 { // a class such as [^a] has both cases of nearly all letters
			continue
		}
		for c := r.lo; c <= r.hi; c++ {
			for f := unicode.SimpleFold(c); f != c; f = unicode.SimpleFold(f) {
				more.ranges = append(more.ranges, charRange{f, f})
			}
		}
	}
	return s.union(more)
}
