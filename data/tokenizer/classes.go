package tokenizer

import (
	"sync"
	"unicode"
	"unicode/utf8"
)

// Classes of characters for the splitters of byte-level BPE.
const (
	classOther  = iota
	classLetter // \p{L}
	classNumber // \p{N}
	classSpace  // \s
)

// Letters and numbers of Unicode 15.1 and 16, which other tools' splitters know
// and Go's tables may not have yet.
var (
	newLetters = &unicode.RangeTable{
		R16: []unicode.Range16{{0x1c89, 0x1c8a, 1}, {0xa7cb, 0xa7cd, 1}, {0xa7da, 0xa7dc, 1}},
		R32: []unicode.Range32{
			{0x105c0, 0x105f3, 1}, {0x10d4a, 0x10d65, 1}, {0x10d6f, 0x10d85, 1}, {0x10ec2, 0x10ec4, 1},
			{0x11380, 0x11389, 1}, {0x1138b, 0x1138b, 1}, {0x1138e, 0x1138e, 1}, {0x11390, 0x113b5, 1},
			{0x113b7, 0x113b7, 1}, {0x113d1, 0x113d1, 1}, {0x113d3, 0x113d3, 1}, {0x11bc0, 0x11be0, 1},
			{0x13460, 0x143fa, 1}, {0x16100, 0x1611d, 1}, {0x16d40, 0x16d6c, 1}, {0x18cff, 0x18cff, 1},
			{0x1e5d0, 0x1e5ed, 1}, {0x1e5f0, 0x1e5f0, 1}, {0x2ebf0, 0x2ee5d, 1},
		},
	}
	newNumbers = &unicode.RangeTable{R32: []unicode.Range32{
		{0x10d40, 0x10d49, 1}, {0x116d0, 0x116e3, 1}, {0x11bf0, 0x11bf9, 1}, {0x16130, 0x16139, 1},
		{0x16d70, 0x16d79, 1}, {0x1ccf0, 0x1ccf9, 1}, {0x1e5f1, 0x1e5fa, 1},
	}}
)

// classes holds the class of every character: a megabyte, computed when the
// first splitter needs it.
var classes = sync.OnceValue(func() *[unicode.MaxRune + 1]uint8 {
	all := new([unicode.MaxRune + 1]uint8)
	set := func(table *unicode.RangeTable, class uint8) {
		for _, r := range table.R16 {
			for c := int(r.Lo); c <= int(r.Hi); c += int(r.Stride) {
				all[c] = class
			}
		}
		for _, r := range table.R32 {
			for c := int(r.Lo); c <= int(r.Hi); c += int(r.Stride) {
				all[c] = class
			}
		}
	}
	set(unicode.L, classLetter)
	set(newLetters, classLetter)
	set(unicode.N, classNumber)
	set(newNumbers, classNumber)
	set(unicode.White_Space, classSpace)
	return all
})

// classifier returns the class and the length of the first character of a text.
// A byte that is not UTF-8 is a character of no class.
type classifier struct{ all *[unicode.MaxRune + 1]uint8 }

func (c classifier) at(text []byte) (class uint8, n int) {
	if b := text[0]; b < utf8.RuneSelf {
		return c.all[b], 1
	}
	r, n := utf8.DecodeRune(text)
	return c.all[r], n
}

// run returns the end of the characters of one class that start at i, i itself
// if there are none.
func (c classifier) run(text []byte, i int, class uint8) int {
	for i < len(text) {
		if b := text[i]; b < utf8.RuneSelf {
			if c.all[b] != class {
				return i
			}
			i++
			continue
		}
		r, n := utf8.DecodeRune(text[i:])
		if c.all[r] != class {
			return i
		}
		i += n
	}
	return i
}
