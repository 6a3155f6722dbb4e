package tokenizer

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// Walking a text's bytes finds the strings that the text starts with, and no others.
func TestTrie(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	random := func(letters string, most int) string {
		s := make([]byte, r.IntN(most+1))
		for i := range s {
			s[i] = letters[r.IntN(len(letters))]
		}
		return string(s)
	}
	for _, letters := range []string{"a", "ab", "\x00a\xff", "abcdefghijklmnopqrstuvwxyz"} {
		for range 50 {
			list := make([]string, r.IntN(40))
			for i := range list {
				list[i] = random(letters, 20)
			}
			found := newTrie(list)
			for range 50 {
				text := random(letters, 24)
				var got, want []int
				node := uint32(0)
				for i := range len(text) {
					if node = found.child(node, text[i]); node == 0 {
						break
					}
					if value := found.nodes[node].value; value >= 0 {
						got = append(got, int(value))
					}
				}
				for i, s := range list {
					if s != "" && strings.HasPrefix(text, s) && !slices.Contains(list[i+1:], s) {
						want = append(want, i)
					}
				}
				slices.SortFunc(want, func(a, b int) int { return len(list[a]) - len(list[b]) })
				if !slices.Equal(got, want) {
					t.Fatalf("%q in %q: %v, want %v", text, list, got, want)
				}
			}
		}
	}
}
