package tokenizer

import (
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"unicode"
	"unicode/utf8"
)

// scripts cuts where the script changes (UnicodeScripts). Japanese kana count as
// ideographs. Spaces and characters without a script belong to the text before
// them.
type scripts struct{}

func parseScripts(json.RawMessage) ([]pretokenizer, error) { return []pretokenizer{scripts{}}, nil }

// anyScript is compatible with every script.
const anyScript = 0

// scriptOf holds the number of each character's script.
var scriptOf = sync.OnceValue(func() *[unicode.MaxRune + 1]uint8 {
	all := new([unicode.MaxRune + 1]uint8)
	number := map[string]uint8{}
	for i, name := range slices.Sorted(maps.Keys(unicode.Scripts)) {
		number[name] = uint8(i + 1)
	}
	for name, table := range unicode.Scripts {
		n := number[name]
		if name == "Hiragana" || name == "Katakana" {
			n = number["Han"]
		}
		for _, r := range tableSet(table).minus(youngScripts).ranges {
			for c := r.lo; c <= r.hi; c++ {
				all[c] = n
			}
		}
	}
	all[0x30fc] = number["Han"]
	all[0x589], all[0x61c] = number["Common"], number["Common"] // as Unicode 9 has them
	all[0x953], all[0x954] = number["Devanagari"], number["Devanagari"]
	all[' '] = anyScript
	return all
})

func (scripts) newState() preState        { return scripts{} }
func (scripts) see(_, text []byte) []byte { return text }

func (s scripts) apart(left, right []byte) bool { return s.cuts(left, right) }

func (scripts) cuts(left, right []byte) bool {
	a, _ := utf8.DecodeLastRune(left)
	b, _ := utf8.DecodeRune(right)
	x, y := scriptOf()[a], scriptOf()[b]
	return x != anyScript && y != anyScript && x != y
}

// apply drops spaces before the first character with a script, as Hugging Face's
// tokenizers do.
func (scripts) apply(in, out *pieces, _, _ bool) error {
	of := scriptOf()
	out.text, out.spans = in.text, out.spans[:0]
	for _, p := range in.spans {
		start, last := -1, -1
		for i := p.start; i < p.end; {
			r, n := utf8.DecodeRune(in.text[i:p.end])
			if script := int(of[r]); script != anyScript {
				if script != last {
					if start >= 0 {
						out.spans = append(out.spans, span{start, i})
					}
					start = i
				}
				last = script
			}
			i += n
		}
		if start >= 0 {
			out.spans = append(out.spans, span{start, p.end})
		}
	}
	return nil
}
