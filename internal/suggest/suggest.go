// Package suggest finds the known name that is closest to a misspelled one.
package suggest

import (
	"cmp"
	"slices"
	"strings"
)

// Name returns the candidate with the fewest edits from name, and the first of
// several. It returns "" if more than a third of its letters differ: a bad
// guess misleads more than none. It ignores case, - and _.
func Name(name string, candidates []string) string {
	best, bestEdits := "", 0
	plain := fold(name)
	for _, c := range candidates {
		other := fold(c)
		edits := distance(plain, other)
		if allowed := max(1, max(len(plain), len(other))/3); edits > allowed {
			continue
		}
		if best == "" || edits < bestEdits {
			best, bestEdits = c, edits
		}
	}
	return best
}

// Nearest returns the candidates in the order of their edits from name.
func Nearest(name string, candidates []string) []string {
	plain := fold(name)
	return slices.SortedStableFunc(slices.Values(candidates), func(a, b string) int {
		return cmp.Compare(distance(plain, fold(a)), distance(plain, fold(b)))
	})
}

func fold(s string) string {
	return strings.ReplaceAll(strings.ToLower(s), "_", "-")
}

// distance is the number of insertions, deletions, substitutions and swaps of
// neighbours between a and b (optimal string alignment).
func distance(a, b string) int {
	before, above := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range above {
		above[j] = j
	}
	row := make([]int, len(b)+1)
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			substitute := above[j-1]
			if a[i-1] != b[j-1] {
				substitute++
			}
			row[j] = min(above[j]+1, row[j-1]+1, substitute)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, above, row = above, row, before
	}
	return above[len(b)]
}
