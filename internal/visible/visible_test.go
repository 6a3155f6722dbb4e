package visible

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestEscapes(t *testing.T) {
	for _, test := range []struct{ text, want, lines, quoted string }{
		{"koala++ 2", "koala++ 2", "koala++ 2", "koala++ 2"},
		{"Привет, 木, 👩‍🔬", "Привет, 木, 👩‍🔬", "Привет, 木, 👩‍🔬", "Привет, 木, 👩‍🔬"},
		{"\x1b]0;title\a", `\x1b]0;title\a`, `\x1b]0;title\a`, `"\x1b]0;title\a"`},
		{"a\tb\n", `a\tb\n`, "a\tb\n", `"a\tb\n"`},
		{"over\rwritten\x7f", `over\rwritten\x7f`, `over\rwritten\x7f`, `"over\rwritten\x7f"`},
		{"C1 \u009b31m", `C1 \u009b31m`, `C1 \u009b31m`, `"C1 \u009b31m"`},
		{"abc\u202edef", `abc\u202edef`, `abc\u202edef`, `"abc\u202edef"`},
		{"byte \x9b, sign \ufffd", `byte \x9b, sign ` + "\ufffd", `byte \x9b, sign ` + "\ufffd", `"byte \x9b, sign ` + "\ufffd" + `"`},
	} {
		if got := Text(test.text); got != test.want {
			t.Errorf("Text(%q) is %s, want %s", test.text, got, test.want)
		}
		if got := Lines(test.text); got != test.lines {
			t.Errorf("Lines(%q) is %s, want %s", test.text, got, test.lines)
		}
		if got := Quoted(test.text); got != test.quoted {
			t.Errorf("Quoted(%q) is %s, want %s", test.text, got, test.quoted)
		}
		// Bytes written one by one give the same text.
		var b strings.Builder
		w := NewWriter(&b)
		for i := range len(test.text) {
			if n, err := w.Write([]byte{test.text[i]}); n != 1 || err != nil {
				t.Fatal(n, err)
			}
		}
		if b.String() != test.lines {
			t.Errorf("the writer wrote %q, want %q", b.String(), test.lines)
		}
	}
	var b strings.Builder
	Fprintf(&b, "tensor %s: %d\n", "\x1b[2J", 7)
	if b.String() != `tensor \x1b[2J: 7`+"\n" {
		t.Errorf("%q", b.String())
	}
}

func FuzzLines(f *testing.F) {
	f.Add("\x1b]0;title\a\u009b\x9b\u202e👩‍🔬")
	f.Fuzz(func(t *testing.T, text string) {
		shown := Lines(text)
		if !utf8.ValidString(shown) {
			t.Errorf("%q is not UTF-8", shown)
		}
		for _, r := range shown {
			if unicode.IsControl(r) && r != '\n' && r != '\t' || unicode.Is(unicode.Bidi_Control, r) {
				t.Errorf("%q has %U", shown, r)
			}
		}
	})
}
