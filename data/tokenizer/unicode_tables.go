package tokenizer

import (
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// What Hugging Face's tokenizers say of characters comes from several libraries,
// each with tables of its own: Oniguruma and Rust's regex of Unicode 16, Rust's
// standard library of Unicode 17, and two old crates of about Unicode 8 and 9.
// Go's tables are those of Unicode 15. The lists below are the differences. They
// were found by asking each part of tokenizers 0.23.3 about every character.

// newCharacters are the characters that Unicode 15.1 and 16 added, with their
// general categories.
var newCharacters = []struct {
	lo, hi   rune
	category string
}{
	{0x897, 0x897, "Mn"}, {0x1b4e, 0x1b4f, "Po"}, {0x1b7f, 0x1b7f, "Po"}, {0x1c89, 0x1c89, "Lu"},
	{0x1c8a, 0x1c8a, "Ll"}, {0x2427, 0x2429, "So"}, {0x2ffc, 0x2fff, "So"}, {0x31e4, 0x31e5, "So"},
	{0x31ef, 0x31ef, "So"}, {0xa7cb, 0xa7cc, "Lu"}, {0xa7cd, 0xa7cd, "Ll"}, {0xa7da, 0xa7da, "Lu"},
	{0xa7db, 0xa7db, "Ll"}, {0xa7dc, 0xa7dc, "Lu"}, {0x105c0, 0x105f3, "Lo"}, {0x10d40, 0x10d49, "Nd"},
	{0x10d4a, 0x10d4d, "Lo"}, {0x10d4e, 0x10d4e, "Lm"}, {0x10d4f, 0x10d4f, "Lo"}, {0x10d50, 0x10d65, "Lu"},
	{0x10d69, 0x10d6d, "Mn"}, {0x10d6e, 0x10d6e, "Pd"}, {0x10d6f, 0x10d6f, "Lm"}, {0x10d70, 0x10d85, "Ll"},
	{0x10d8e, 0x10d8f, "Sm"}, {0x10ec2, 0x10ec4, "Lo"}, {0x10efc, 0x10efc, "Mn"}, {0x11380, 0x11389, "Lo"},
	{0x1138b, 0x1138b, "Lo"}, {0x1138e, 0x1138e, "Lo"}, {0x11390, 0x113b5, "Lo"}, {0x113b7, 0x113b7, "Lo"},
	{0x113b8, 0x113ba, "Mc"}, {0x113bb, 0x113c0, "Mn"}, {0x113c2, 0x113c2, "Mc"}, {0x113c5, 0x113c5, "Mc"},
	{0x113c7, 0x113ca, "Mc"}, {0x113cc, 0x113cd, "Mc"}, {0x113ce, 0x113ce, "Mn"}, {0x113cf, 0x113cf, "Mc"},
	{0x113d0, 0x113d0, "Mn"}, {0x113d1, 0x113d1, "Lo"}, {0x113d2, 0x113d2, "Mn"}, {0x113d3, 0x113d3, "Lo"},
	{0x113d4, 0x113d5, "Po"}, {0x113d7, 0x113d8, "Po"}, {0x113e1, 0x113e2, "Mn"}, {0x116d0, 0x116e3, "Nd"},
	{0x11bc0, 0x11be0, "Lo"}, {0x11be1, 0x11be1, "Po"}, {0x11bf0, 0x11bf9, "Nd"}, {0x11f5a, 0x11f5a, "Mn"},
	{0x13460, 0x143fa, "Lo"}, {0x16100, 0x1611d, "Lo"}, {0x1611e, 0x16129, "Mn"}, {0x1612a, 0x1612c, "Mc"},
	{0x1612d, 0x1612f, "Mn"}, {0x16130, 0x16139, "Nd"}, {0x16d40, 0x16d42, "Lm"}, {0x16d43, 0x16d6a, "Lo"},
	{0x16d6b, 0x16d6c, "Lm"}, {0x16d6d, 0x16d6f, "Po"}, {0x16d70, 0x16d79, "Nd"}, {0x18cff, 0x18cff, "Lo"},
	{0x1cc00, 0x1ccef, "So"}, {0x1ccf0, 0x1ccf9, "Nd"}, {0x1cd00, 0x1ceb3, "So"}, {0x1e5d0, 0x1e5ed, "Lo"},
	{0x1e5ee, 0x1e5ef, "Mn"}, {0x1e5f0, 0x1e5f0, "Lo"}, {0x1e5f1, 0x1e5fa, "Nd"}, {0x1e5ff, 0x1e5ff, "Po"},
	{0x1f8b2, 0x1f8bb, "So"}, {0x1f8c0, 0x1f8c1, "So"}, {0x1fa89, 0x1fa89, "So"}, {0x1fa8f, 0x1fa8f, "So"},
	{0x1fabe, 0x1fabe, "So"}, {0x1fac6, 0x1fac6, "So"}, {0x1fadc, 0x1fadc, "So"}, {0x1fadf, 0x1fadf, "So"},
	{0x1fae9, 0x1fae9, "So"}, {0x1fbcb, 0x1fbef, "So"}, {0x2ebf0, 0x2ee5d, "Lo"},
}

// newScripts are the characters that Unicode 15.1 and 16 added to scripts.
var newScripts = map[string][]charRange{
	"Han":      {{0x2ebf0, 0x2ee5d}},
	"Latin":    {{0xa7cb, 0xa7cd}, {0xa7da, 0xa7dc}},
	"Cyrillic": {{0x1c89, 0x1c8a}},
	"Arabic":   {{0x897, 0x897}, {0x10ec2, 0x10ec4}, {0x10efc, 0x10efc}},
	"Common":   {{0x2427, 0x2429}, {0x2ffc, 0x2fff}, {0x31e4, 0x31e5}, {0x31ef, 0x31ef}, {0x1cc00, 0x1ccf9}, {0x1cd00, 0x1ceb3}, {0x1f8b2, 0x1f8bb}, {0x1f8c0, 0x1f8c1}, {0x1fa89, 0x1fa89}, {0x1fa8f, 0x1fa8f}, {0x1fabe, 0x1fabe}, {0x1fac6, 0x1fac6}, {0x1fadc, 0x1fadc}, {0x1fadf, 0x1fadf}, {0x1fae9, 0x1fae9}, {0x1fbcb, 0x1fbef}},
}

// youngCombining are marks (M) that the StripAccents normalizer does not know.
var youngCombining = &charset{[]charRange{
	{0x7fd, 0x7fd}, {0x897, 0x89f}, {0x8ca, 0x8d3}, {0x9fe, 0x9fe}, {0xafa, 0xaff}, {0xb55, 0xb55},
	{0xc04, 0xc04}, {0xc3c, 0xc3c}, {0xcf3, 0xcf3}, {0xd00, 0xd00}, {0xd3b, 0xd3c}, {0xd81, 0xd81},
	{0xeba, 0xeba}, {0xece, 0xece}, {0x1715, 0x1715}, {0x180f, 0x180f}, {0x1abf, 0x1ace}, {0x1cf2, 0x1cf3},
	{0x1cf7, 0x1cf7}, {0x1df6, 0x1dfa}, {0xa82c, 0xa82c}, {0xa8ff, 0xa8ff}, {0x10d24, 0x10d27},
	{0x10d69, 0x10d6d}, {0x10eab, 0x10eac}, {0x10efc, 0x10eff}, {0x10f46, 0x10f50}, {0x10f82, 0x10f85},
	{0x11070, 0x11070}, {0x11073, 0x11074}, {0x110c2, 0x110c2}, {0x11145, 0x11146}, {0x111c9, 0x111c9},
	{0x111ce, 0x111cf}, {0x11241, 0x11241}, {0x1133b, 0x1133b}, {0x113b8, 0x113c0}, {0x113c2, 0x113c2},
	{0x113c5, 0x113c5}, {0x113c7, 0x113ca}, {0x113cc, 0x113d0}, {0x113d2, 0x113d2}, {0x113e1, 0x113e2},
	{0x1145e, 0x1145e}, {0x1182c, 0x1183a}, {0x11930, 0x11935}, {0x11937, 0x11938}, {0x1193b, 0x1193e},
	{0x11940, 0x11940}, {0x11942, 0x11943}, {0x119d1, 0x119d7}, {0x119da, 0x119e0}, {0x119e4, 0x119e4},
	{0x11a01, 0x11a0a}, {0x11a33, 0x11a39}, {0x11a3b, 0x11a3e}, {0x11a47, 0x11a47}, {0x11a51, 0x11a5b},
	{0x11a8a, 0x11a99}, {0x11d31, 0x11d36}, {0x11d3a, 0x11d3a}, {0x11d3c, 0x11d3d}, {0x11d3f, 0x11d45},
	{0x11d47, 0x11d47}, {0x11d8a, 0x11d8e}, {0x11d90, 0x11d91}, {0x11d93, 0x11d97}, {0x11ef3, 0x11ef6},
	{0x11f00, 0x11f01}, {0x11f03, 0x11f03}, {0x11f34, 0x11f3a}, {0x11f3e, 0x11f42}, {0x11f5a, 0x11f5a},
	{0x13440, 0x13440}, {0x13447, 0x13455}, {0x1611e, 0x1612f}, {0x16f4f, 0x16f4f}, {0x16f7f, 0x16f87},
	{0x16fe4, 0x16fe4}, {0x16ff0, 0x16ff1}, {0x1cf00, 0x1cf2d}, {0x1cf30, 0x1cf46}, {0x1e08f, 0x1e08f},
	{0x1e130, 0x1e136}, {0x1e2ae, 0x1e2ae}, {0x1e2ec, 0x1e2ef}, {0x1e4ec, 0x1e4ef}, {0x1e5ee, 0x1e5ef},
}}

// youngCompatible are characters that NFKC and NFKD elsewhere leave as they are.
var youngCompatible = &charset{[]charRange{
	{0x32ff, 0x32ff}, {0xa7f2, 0xa7f4}, {0xab69, 0xab69}, {0x10781, 0x10785}, {0x10787, 0x107b0},
	{0x107b2, 0x107ba}, {0x1e030, 0x1e06d}, {0x1f16c, 0x1f16c}, {0x1fbf0, 0x1fbf9},
}}

// category returns the characters of a general category, such as "Lu" or "L", in
// Unicode 16; nil if there is no such category.
func category(name string) *charset {
	table, ok := unicode.Categories[name]
	switch {
	case name == "LC":
		return category("Lu").union(category("Ll")).union(category("Lt"))
	case name == "C":
		return category("Cc").union(category("Cf")).union(category("Cn")).union(category("Co")).union(category("Cs"))
	case name == "Cn":
		assigned := &charset{}
		for _, major := range []string{"L", "M", "N", "P", "S", "Z", "Cc", "Cf", "Co", "Cs"} {
			assigned = assigned.union(category(major))
		}
		return assigned.negate()
	case !ok:
		return nil
	}
	set := tableSet(table)
	for _, c := range newCharacters {
		if strings.HasPrefix(c.category, name) {
			set.ranges = append(set.ranges, charRange{c.lo, c.hi})
		}
	}
	set = set.union(&charset{})
	switch name { // U+1171E became a spacing mark
	case "Mn":
		return set.minus(newCharset(0x1171e, 0x1171e))
	case "Mc":
		return set.union(newCharset(0x1171e, 0x1171e))
	}
	return set
}

func tableSet(table *unicode.RangeTable) *charset {
	set := &charset{}
	add := func(lo, hi, stride rune) {
		if stride == 1 {
			set.ranges = append(set.ranges, charRange{lo, hi})
			return
		}
		for c := lo; c <= hi; c += stride {
			set.ranges = append(set.ranges, charRange{c, c})
		}
	}
	for _, r := range table.R16 {
		add(rune(r.Lo), rune(r.Hi), rune(r.Stride))
	}
	for _, r := range table.R32 {
		add(rune(r.Lo), rune(r.Hi), rune(r.Stride))
	}
	return set.union(&charset{})
}

// categoryNames are the long names of general categories.
var categoryNames = map[string]string{
	"letter": "L", "uppercaseletter": "Lu", "lowercaseletter": "Ll", "titlecaseletter": "Lt", "modifierletter": "Lm",
	"otherletter": "Lo", "casedletter": "LC", "mark": "M", "combiningmark": "M", "nonspacingmark": "Mn", "spacingmark": "Mc",
	"enclosingmark": "Me", "number": "N", "decimalnumber": "Nd", "letternumber": "Nl", "othernumber": "No",
	"punctuation": "P", "connectorpunctuation": "Pc", "dashpunctuation": "Pd", "openpunctuation": "Ps",
	"closepunctuation": "Pe", "initialpunctuation": "Pi", "finalpunctuation": "Pf", "otherpunctuation": "Po",
	"symbol": "S", "mathsymbol": "Sm", "currencysymbol": "Sc", "modifiersymbol": "Sk", "othersymbol": "So",
	"separator": "Z", "spaceseparator": "Zs", "lineseparator": "Zl", "paragraphseparator": "Zp",
	"other": "C", "control": "Cc", "format": "Cf", "unassigned": "Cn", "privateuse": "Co", "surrogate": "Cs",
}

// namedSets remembers what namedSet has made.
var namedSets sync.Map

// namedSet returns the characters of a property as Oniguruma names it: a general
// category, a script, or one of a few others. It is nil for a name it does not know.
func namedSet(name string) *charset {
	if set, ok := namedSets.Load(name); ok {
		return set.(*charset)
	}
	set := makeNamedSet(name)
	if set != nil {
		namedSets.Store(name, set)
	}
	return set
}

func makeNamedSet(name string) *charset {
	plain := strings.ToLower(strings.NewReplacer(" ", "", "-", "", "_", "").Replace(name))
	if long, ok := categoryNames[plain]; ok {
		return category(long)
	}
	for short := range unicode.Categories {
		if strings.ToLower(short) == plain {
			return category(short)
		}
	}
	for script, table := range unicode.Scripts {
		if strings.ToLower(strings.ReplaceAll(script, "_", "")) == plain {
			return tableSet(table).union(&charset{newScripts[script]})
		}
	}
	if plain == "any" || plain == "assigned" {
		return map[string]*charset{"any": anyChar(), "assigned": category("Cn").negate()}[plain]
	}
	if plain == "alphabetic" {
		plain = "alpha"
	}
	return posixSet(plain)
}

// posixSet returns the characters of a POSIX bracket, such as alpha, or nil.
func posixSet(name string) *charset {
	union := func(names ...string) *charset {
		set := &charset{}
		for _, name := range names {
			set = set.union(category(name))
		}
		return set
	}
	space := tableSet(unicode.White_Space)
	switch name {
	case "alpha":
		return union("L", "Nl").union(tableSet(unicode.Other_Alphabetic)).union(youngAlphabetic)
	case "digit":
		return category("Nd")
	case "alnum":
		return posixSet("alpha").union(category("Nd"))
	case "upper":
		return category("Lu").union(tableSet(unicode.Other_Uppercase))
	case "lower":
		return category("Ll").union(tableSet(unicode.Other_Lowercase))
	case "punct":
		return union("P", "S")
	case "space":
		return space
	case "blank":
		return category("Zs").union(newCharset('\t', '\t'))
	case "cntrl":
		return category("Cc")
	case "graph":
		return space.union(union("Cc", "Cn", "Cs")).negate()
	case "print":
		return posixSet("graph").union(category("Zs"))
	case "ascii":
		return newCharset(0, 0x7f)
	case "xdigit":
		return newCharset('0', '9').union(newCharset('A', 'F')).union(newCharset('a', 'f'))
	case "word":
		return wordSet().minus(newCharset(0x200c, 0x200d)).union(oddWords)
	}
	return nil
}

// youngAlphabetic are characters that became alphabetic with Unicode 16.
var youngAlphabetic = &charset{[]charRange{
	{0x363, 0x36f}, {0x897, 0x897}, {0x1dd3, 0x1de6}, {0x10d69, 0x10d69}, {0x10efc, 0x10efc}, {0x113b8, 0x113c0},
	{0x113c2, 0x113c2}, {0x113c5, 0x113c5}, {0x113c7, 0x113ca}, {0x113cc, 0x113cd}, {0x1611e, 0x1612e},
}}

// oddWords are superscripts and fractions of Latin-1, which Oniguruma counts as \w.
var oddWords = &charset{[]charRange{{0xb2, 0xb3}, {0xb9, 0xb9}, {0xbc, 0xbe}}}

// wordSet is \w as Rust's regex has it.
func wordSet() *charset {
	set := posixSet("alpha")
	for _, name := range []string{"M", "Nd", "Pc"} {
		set = set.union(category(name))
	}
	return set.union(newCharset(0x200c, 0x200d))
}

// wordBits are the characters of \w in Oniguruma.
var wordBits = sync.OnceValue(func() *bitset { return newBitset(posixSet("word")) })

// numericSet are the characters that Rust calls numeric.
var numericSet = sync.OnceValue(func() *charset {
	return category("N").union(newCharset(0x11de0, 0x11de9)).union(newCharset(0x16ff4, 0x16ff6))
})

// punctuationSet are the characters that BERT's pre-tokenizer and Punctuation set apart.
var punctuationSet = sync.OnceValue(func() *charset {
	young := tableSet(youngPunctuation)
	set := tableSet(unicode.P).minus(young).union(newCharset(0x166d, 0x166d)).union(newCharset(0x111c9, 0x111c9))
	for c := rune('!'); c < 0x7f; c++ {
		if !unicode.IsLetter(c) && !unicode.IsDigit(c) {
			set = set.union(newCharset(c, c))
		}
	}
	return set
})

// BERT's normalizer classifies characters by tables of about Unicode 8. These are
// the characters that Go's tables of Unicode 15 see otherwise.
var (
	// youngMarks are marks (Mn) that are letters by the old tables.
	youngMarks = &unicode.RangeTable{
		R16: []unicode.Range16{
			{0x7fd, 0x7fd, 1}, {0x898, 0x89f, 1}, {0x8ca, 0x8e1, 1}, {0x9fe, 0x9fe, 1}, {0xafa, 0xaff, 1},
			{0xb55, 0xb55, 1}, {0xc04, 0xc04, 1}, {0xc3c, 0xc3c, 1}, {0xd00, 0xd00, 1}, {0xd3b, 0xd3c, 1},
			{0xd81, 0xd81, 1}, {0xeba, 0xeba, 1}, {0xece, 0xece, 1}, {0x180f, 0x180f, 1}, {0x1885, 0x1886, 1},
			{0x1abf, 0x1ace, 1}, {0x1df6, 0x1dfb, 1}, {0xa82c, 0xa82c, 1}, {0xa8c5, 0xa8c5, 1}, {0xa8ff, 0xa8ff, 1},
			{0xa9bd, 0xa9bd, 1},
		},
		R32: []unicode.Range32{
			{0x10d24, 0x10d27, 1}, {0x10eab, 0x10eac, 1}, {0x10efd, 0x10eff, 1}, {0x10f46, 0x10f50, 1},
			{0x10f82, 0x10f85, 1}, {0x11070, 0x11070, 1}, {0x11073, 0x11074, 1}, {0x110c2, 0x110c2, 1},
			{0x111c9, 0x111c9, 1}, {0x111cf, 0x111cf, 1}, {0x1123e, 0x1123e, 1}, {0x11241, 0x11241, 1},
			{0x1133b, 0x1133b, 1}, {0x11438, 0x1143f, 1}, {0x11442, 0x11444, 1}, {0x11446, 0x11446, 1},
			{0x1145e, 0x1145e, 1}, {0x1182f, 0x11837, 1}, {0x11839, 0x1183a, 1}, {0x1193b, 0x1193c, 1},
			{0x1193e, 0x1193e, 1}, {0x11943, 0x11943, 1}, {0x119d4, 0x119d7, 1}, {0x119da, 0x119db, 1},
			{0x119e0, 0x119e0, 1}, {0x11a01, 0x11a0a, 1}, {0x11a33, 0x11a38, 1}, {0x11a3b, 0x11a3e, 1},
			{0x11a47, 0x11a47, 1}, {0x11a51, 0x11a56, 1}, {0x11a59, 0x11a5b, 1}, {0x11a8a, 0x11a96, 1},
			{0x11a98, 0x11a99, 1}, {0x11c30, 0x11c36, 1}, {0x11c38, 0x11c3d, 1}, {0x11c3f, 0x11c3f, 1},
			{0x11c92, 0x11ca7, 1}, {0x11caa, 0x11cb0, 1}, {0x11cb2, 0x11cb3, 1}, {0x11cb5, 0x11cb6, 1},
			{0x11d31, 0x11d36, 1}, {0x11d3a, 0x11d3a, 1}, {0x11d3c, 0x11d3d, 1}, {0x11d3f, 0x11d45, 1},
			{0x11d47, 0x11d47, 1}, {0x11d90, 0x11d91, 1}, {0x11d95, 0x11d95, 1}, {0x11d97, 0x11d97, 1},
			{0x11ef3, 0x11ef4, 1}, {0x11f00, 0x11f01, 1}, {0x11f36, 0x11f3a, 1}, {0x11f40, 0x11f40, 1},
			{0x11f42, 0x11f42, 1}, {0x13440, 0x13440, 1}, {0x13447, 0x13455, 1}, {0x16f4f, 0x16f4f, 1},
			{0x16fe4, 0x16fe4, 1}, {0x1cf00, 0x1cf2d, 1}, {0x1cf30, 0x1cf46, 1}, {0x1e000, 0x1e006, 1},
			{0x1e008, 0x1e018, 1}, {0x1e01b, 0x1e021, 1}, {0x1e023, 0x1e024, 1}, {0x1e026, 0x1e02a, 1},
			{0x1e08f, 0x1e08f, 1}, {0x1e130, 0x1e136, 1}, {0x1e2ae, 0x1e2ae, 1}, {0x1e2ec, 0x1e2ef, 1},
			{0x1e4ec, 0x1e4ef, 1}, {0x1e944, 0x1e94a, 1},
		},
	}
	// youngPunctuation is punctuation (P) that is none by the old tables.
	youngPunctuation = &unicode.RangeTable{
		R16: []unicode.Range16{
			{0x61d, 0x61d, 1}, {0x9fd, 0x9fd, 1}, {0xa76, 0xa76, 1}, {0xc77, 0xc77, 1}, {0xc84, 0xc84, 1},
			{0x1b7d, 0x1b7e, 1}, {0x2e43, 0x2e4f, 1}, {0x2e52, 0x2e5d, 1},
		},
		R32: []unicode.Range32{
			{0x10ead, 0x10ead, 1}, {0x10f55, 0x10f59, 1}, {0x10f86, 0x10f89, 1}, {0x1144b, 0x1144f, 1},
			{0x1145a, 0x1145b, 1}, {0x1145d, 0x1145d, 1}, {0x11660, 0x1166c, 1}, {0x116b9, 0x116b9, 1},
			{0x1183b, 0x1183b, 1}, {0x11944, 0x11946, 1}, {0x119e2, 0x119e2, 1}, {0x11a3f, 0x11a46, 1},
			{0x11a9a, 0x11a9c, 1}, {0x11a9e, 0x11aa2, 1}, {0x11b00, 0x11b09, 1}, {0x11c41, 0x11c45, 1},
			{0x11c70, 0x11c71, 1}, {0x11ef7, 0x11ef8, 1}, {0x11f43, 0x11f4f, 1}, {0x11fff, 0x11fff, 1},
			{0x12ff1, 0x12ff2, 1}, {0x16e97, 0x16e9a, 1}, {0x16fe2, 0x16fe2, 1}, {0x1e95e, 0x1e95f, 1},
		},
	}
	// youngFormats are format characters (Cf) that are none by the old tables.
	youngFormats = &unicode.RangeTable{
		R16: []unicode.Range16{{0x890, 0x891, 1}, {0x8e2, 0x8e2, 1}},
		R32: []unicode.Range32{{0x110cd, 0x110cd, 1}, {0x13430, 0x1343f, 1}},
	}
	// chinese are the characters that BERT sets apart, each a word.
	chinese = &unicode.RangeTable{
		R16: []unicode.Range16{{0x3400, 0x4dbf, 1}, {0x4e00, 0x9fff, 1}, {0xf900, 0xfaff, 1}},
		R32: []unicode.Range32{{0x20000, 0x2a6df, 1}, {0x2a700, 0x2b81f, 1}, {0x2b920, 0x2ceaf, 1}, {0x2f800, 0x2fa1f, 1}},
	}
)

func oldMark(r rune) bool {
	return r == 0x1734 || unicode.Is(unicode.Mn, r) && !unicode.Is(youngMarks, r)
}

func oldControl(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co) && !unicode.Is(youngFormats, r)
}

// appendLower appends text in lower case, character by character as Unicode's
// full mapping has it: one character alone, U+0130, becomes two.
func appendLower(dst, text []byte) []byte {
	for i := 0; i < len(text); {
		b := text[i]
		if b < utf8.RuneSelf {
			if 'A' <= b && b <= 'Z' {
				b += 'a' - 'A'
			}
			dst = append(dst, b)
			i++
			continue
		}
		r, n := utf8.DecodeRune(text[i:])
		switch {
		case r == 'İ':
			dst = append(dst, "i\u0307"...)
		case r == utf8.RuneError && n == 1:
			dst = append(dst, b)
		default:
			dst = utf8.AppendRune(dst, lowerRune(r))
		}
		i += n
	}
	return dst
}

// lowerRune knows the capitals of Unicode 16 and 17 too, as Rust does and Go's
// tables may not yet.
func lowerRune(r rune) rune {
	switch {
	case r < 0x1c89:
	case r == 0x1c89, r == 0xa7cc, r == 0xa7ce, r == 0xa7d2, r == 0xa7d4, r == 0xa7da:
		return r + 1
	case r == 0xa7cb:
		return 0x264
	case r == 0xa7dc:
		return 0x19b
	case 0x10d50 <= r && r <= 0x10d65:
		return r + 0x20
	case 0x16ea0 <= r && r <= 0x16eb8:
		return r + 0x1b
	}
	return unicode.ToLower(r)
}

// youngScripts are characters that the UnicodeScripts pre-tokenizer counts to no script.
var youngScripts = &charset{}
