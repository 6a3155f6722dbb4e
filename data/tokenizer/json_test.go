package tokenizer

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestScannerSkipsValidJSON holds the scanner against encoding/json.
func TestScannerSkipsValidJSON(t *testing.T) {
	texts := []string{
		`{}`, `[]`, `{"a":1}`, `{"a":[1,-2.5e3,"x\u00e9\n",null,true,{"b":{}}]}`, ` [ 1 , 2 ] `, `"é"`, `0`, `-0.5`,
		``, `{`, `[1,]`, `{"a":1,}`, `{"a"}`, `{"a":}`, `{1:2}`, `[1 2]`, `01`, `-`, `1.`, `tru`, `"`, `"\x"`, `"\u12"`, `"\u12zz"`,
		"\"a\nb\"", `[}`, `{]`, `"a" 1`, `[[]`, `nul`, `1e`, `"\`,
	}
	for place := range 20 { // in the middle of eight bytes and at their ends
		for _, char := range []string{`"`, `\`, `\"`, "\x1f", " ", "!", "#", "[", "]", "\x7f", "é", "\u009c"} {
			texts = append(texts, `"`+strings.Repeat("a", place)+char+strings.Repeat("b", 20-place)+`"`)
		}
	}
	for _, text := range texts {
		s := scanner{text: text}
		got := s.skip(0) && s.next() == 0
		if want := json.Valid([]byte(text)); got != want {
			t.Errorf("%q: valid is %v, want %v", text, got, want)
		}
	}
}

// TestStripCutsLines holds that lines are places to cut for a Strip at the right, and
// white space at the end of a section is not.
func TestStripCutsLines(t *testing.T) {
	for _, c := range []struct {
		left, right string
		strip       strip
		want        bool
	}{
		{"a", "\nb", strip{Right: true}, true},
		{"a\n", "b", strip{Right: true}, false}, // an added token may follow
		{"a", "\nb", strip{Left: true, Right: true}, true},
		{"a ", " b", strip{Left: true}, false}, // white space alone may stand before
		{"a ", "b", strip{Left: true}, true},
	} {
		if got := c.strip.separate([]byte(c.left), []byte(c.right)); got != c.want {
			t.Errorf("%+v: %q and %q are separate: %v, want %v", c.strip, c.left, c.right, got, c.want)
		}
	}
}

// TestPieceCacheIsBounded encodes always new pieces.
func TestPieceCacheIsBounded(t *testing.T) {
	c := newPieceCache(func(dst []uint32, piece []byte) ([]uint32, error) {
		for _, b := range piece {
			dst = append(dst, uint32(b))
		}
		return dst, nil
	})
	var dst []uint32
	piece := make([]byte, cachedPiece)
	for i := range 4 * cachedBytes / cachedPiece {
		for j := range 4 {
			piece[j] = byte(i >> (8 * j))
		}
		var err error
		if dst, err = c.append(dst[:0], piece, 0, len(piece)); err != nil || len(dst) != len(piece) || dst[1] != uint32(piece[1]) {
			t.Fatalf("piece %d: %v, %v", i, dst, err)
		}
		if len(c.pieces.arena) > cachedBytes+cachedPiece || len(c.ids) > cachedIDs+cachedPiece {
			t.Fatalf("after %d pieces the cache has %d bytes and %d ids", i, len(c.pieces.arena), len(c.ids))
		}
	}
}
