package tokenizer

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// With the cache of short pieces a text has the ids of its pieces, which the splitter
// cuts, wherever words, marks and zeros meet the ends of the cache's keys and the text.
func TestShortCache(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	parts := []string{" ", "  ", "\n", "\r\n", "\t", "\x00", "'", "'s", "'LL", ",", ".", "(", "12", "1234567", "é", "ü", "考拉", "\u00a0", "ſ", "@", "[", "`", "{", "Zz", "_"}
	var b strings.Builder
	for b.Len() < 4*shortFrom {
		if part := random.IntN(2 * len(parts)); part < len(parts) {
			b.WriteString(parts[part])
		} else {
			for range 1 + random.IntN(2)*random.IntN(24) {
				b.WriteByte("abcdefghijklmnopqrstuvwxyzABCXYZ"[random.IntN(1+random.IntN(32))])
			}
		}
	}
	text := []byte(b.String())
	for _, split := range []string{"gpt2", "gpt4", "qwen2", "gpt4o", tekkenPattern} {
		tok := learn(t, bpeKind, TrainOptions{Size: 600, Split: split}, 1, b.String()[:shortFrom]).(*Pipeline)
		if tok.fast == nil {
			t.Fatalf("%s has no fast splitter", split)
		}
		encoder := tok.NewEncoder()
		for tail := range 10 { // the text ends in other places of words
			text := text[:len(text)-tail]
			var want []uint32
			slow := tok.model.newEncoder()
			for i := 0; i < len(text); {
				end := tok.fast.next(text, i)
				var err error
				if want, err = slow.append(want, text, i, end); err != nil {
					t.Fatal(err)
				}
				i = end
			}
			got, err := encoder.Encode(nil, text, Document)
			if err != nil || !slices.Equal(got, want) {
				t.Fatalf("%s, %d bytes: the ids differ, %v", split, len(text), err)
			}
		}
	}
	for b := range 256 {
		word := []byte("abcdefgh")
		word[3] = byte(b)
		letter := b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
		if found := notLetters(head8(word)) == 0; found != letter {
			t.Errorf("%q among letters is a letter: %t", byte(b), found)
		}
	}
}
