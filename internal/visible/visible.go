// Package visible writes text of others, such as names in files and what models
// generate, so that a terminal shows its control characters and does not obey them.
package visible

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text escapes every character that could move a terminal's cursor, change its colours
// or reverse its text.
func Text(s string) string { return escape(s, "") }

// Lines is Text for texts of several lines, whose line ends and tabs stay.
func Lines(s string) string { return escape(s, "\n\t") }

// Quoted returns s, or, if it has anything to escape, s in quotes.
func Quoted(s string) string {
	if Text(s) == s {
		return s
	}
	return strconv.QuoteToGraphic(s)
}

// Fprintf writes a message that may name things of others. Its only error, that nobody
// reads the stream, has no consequence.
func Fprintf(w io.Writer, format string, args ...any) {
	_, _ = io.WriteString(w, Lines(fmt.Sprintf(format, args...)))
}

func shown(r rune) bool {
	return unicode.IsGraphic(r) && !unicode.Is(unicode.Zl, r) && !unicode.Is(unicode.Zp, r) || r == zeroWidthJoiner
}

const zeroWidthJoiner = '\u200d' // joins emoji

func escape(s, kept string) string {
	hidden := func(r rune) bool { return !shown(r) && !strings.ContainsRune(kept, r) }
	if utf8.ValidString(s) && strings.IndexFunc(s, hidden) < 0 {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], string(r)):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case hidden(r):
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// NewWriter returns a writer that writes to w what Lines makes of its input. A
// character may be spread over several writes.
func NewWriter(w io.Writer) io.Writer { return &writer{w: w} }

type writer struct {
	w    io.Writer
	held []byte // the start of a character
}

func (v *writer) Write(p []byte) (int, error) {
	text := append(v.held, p...)
	end := len(text)
	for i := 1; i < utf8.UTFMax && i <= len(text); i++ {
		if start := text[len(text)-i:]; utf8.RuneStart(start[0]) {
			if !utf8.FullRune(start) {
				end -= i
			}
			break
		}
	}
	v.held = append([]byte(nil), text[end:]...)
	if _, err := io.WriteString(v.w, Lines(string(text[:end]))); err != nil {
		return 0, err
	}
	return len(p), nil
}
