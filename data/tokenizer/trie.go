package tokenizer

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"strings"
)

// trie finds the strings of a fixed set that a text starts with. Nodes are numbered level by
// level, so that the children of a node are neighbours, and take nine bytes each.
type trie struct {
	nodes  []trieNode // and one more, which ends the children of the last one
	labels []byte     // by node: the byte that leads to it
	root   [256]uint32
}

type trieNode struct {
	first uint32 // the first of its children, which end where those of the next node start
	value int32  // the number of the string that ends here, or -1
}

// trieEntry is a string of which a trie is made.
type trieEntry struct {
	head  uint64 // its first eight bytes, so that most of the work does not read the string
	value int32
	size  int32
}

// at returns a byte of the string.
func (e *trieEntry) at(i int, list []string) byte {
	if i < 8 {
		return byte(e.head >> (56 - 8*i))
	}
	return list[e.value][i]
}

// newTrie numbers strings by their places in the list. Of equal strings the last one counts;
// empty ones are left out.
func newTrie(list []string) *trie {
	sorted := make([]trieEntry, len(list))
	for i, s := range list {
		var head [8]byte
		copy(head[:], s)
		sorted[i] = trieEntry{binary.BigEndian.Uint64(head[:]), int32(i), int32(len(s))}
	}
	slices.SortFunc(sorted, func(a, b trieEntry) int {
		if a.head != b.head {
			return cmp.Compare(a.head, b.head)
		}
		return cmp.Or(strings.Compare(list[a.value], list[b.value]), cmp.Compare(a.value, b.value))
	})
	size, last := 1, ""
	for _, e := range sorted {
		s, same := list[e.value], 0
		for same < min(len(s), len(last)) && s[same] == last[same] {
			same++
		}
		size, last = size+len(s)-same, s
	}
	t := &trie{nodes: make([]trieNode, 0, size+1), labels: append(make([]byte, 0, size), 0)}
	// The strings of a node share their first depth bytes.
	type group struct{ from, to int32 }
	level, below := []group{{0, int32(len(sorted))}}, []group(nil)
	for depth := 0; len(level) > 0; depth++ {
		below = below[:0]
		for _, g := range level {
			node := trieNode{first: uint32(len(t.labels)), value: -1}
			at := g.from
			for ; at < g.to && int(sorted[at].size) == depth; at++ {
				if depth > 0 {
					node.value = sorted[at].value
				}
			}
			t.nodes = append(t.nodes, node)
			for at < g.to {
				from, label := at, sorted[at].at(depth, list)
				for at++; at < g.to && sorted[at].at(depth, list) == label; at++ {
				}
				if depth == 0 {
					t.root[label] = uint32(len(t.labels))
				}
				below = append(below, group{from, at})
				t.labels = append(t.labels, label)
			}
		}
		level, below = below, level
	}
	t.nodes = append(t.nodes, trieNode{first: uint32(len(t.labels)), value: -1})
	return t
}

// child returns the node that a byte leads to, or 0, the root, if there is none.
func (t *trie) child(node uint32, b byte) uint32 {
	if node == 0 {
		return t.root[b]
	}
	first, end := t.nodes[node].first, t.nodes[node+1].first
	labels := t.labels[first:end]
	if len(labels) > 8 {
		if i := bytes.IndexByte(labels, b); i >= 0 {
			return first + uint32(i)
		}
		return 0
	}
	for i, label := range labels {
		if label == b {
			return first + uint32(i)
		}
	}
	return 0
}

// longest returns the number of the longest string that a text starts with, and its length;
// 0 bytes if there is none.
func (t *trie) longest(text []byte) (value int32, n int) {
	node := uint32(0)
	for i, b := range text {
		if node = t.child(node, b); node == 0 {
			break
		}
		if v := t.nodes[node].value; v >= 0 {
			value, n = v, i+1
		}
	}
	return value, n
}

// leaveOut takes a string out of the set.
func (t *trie) leaveOut(s string) {
	node := uint32(0)
	for i := range len(s) {
		if node = t.child(node, s[i]); node == 0 {
			return
		}
	}
	if node != 0 {
		t.nodes[node].value = -1
	}
}
