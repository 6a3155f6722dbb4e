package tokenizer

import "fmt"

// BPE is byte-level byte-pair encoding, as GPT-2 has it: text is cut into
// pieces, each starts as its bytes, and the pair of neighbours that was
// learned first is merged until no pair is left that was learned.
type BPE struct {
	tokens
	bytes    [256]uint32 // the id of each byte
	merges   []merge     // by rank
	ranks    *pairTable  // pair -> rank
	splitter splitter
	whole    bool // a piece that is a token needs no merging (ignore_merges)
	nfc      bool // text is composed (Unicode's NFC) before it is cut
	parts    parts
}

// merge is one learned merge.
type merge struct {
	pair
	to uint32
}

// parts are the parts of tokenizer.json that are written as they were read.
type parts struct{ preTokenizer, postProcessor, decoder any }

// newBPE checks and joins a vocabulary, spelled as tokenizer.json has it, and
// its merges in the order of their ranks. special are ids of the vocabulary
// that no bytes make.
func newBPE(vocabulary []string, merges [][2]string, special map[uint32]bool) (*BPE, error) {
	t := &BPE{tokens: newTokens(vocabulary), ranks: newPairTable(len(merges)), splitter: newGPT2Splitter()}
	var single [256]bool
	for i, token := range vocabulary {
		id := uint32(i)
		if special[id] {
			continue
		}
		text, ok := unspell(token)
		if !ok {
			return nil, fmt.Errorf("vocab: %q is not spelled in the byte-level alphabet", token)
		}
		if len(text) == 1 {
			t.bytes[text[0]], single[text[0]] = id, true
		}
	}
	for b := range 256 {
		if !single[b] && inUTF8(byte(b)) {
			return nil, fmt.Errorf("vocab: the byte 0x%02x (%q) is missing: not a byte-level vocabulary", b, byteChars[b])
		}
	}
	for rank, m := range merges {
		left, okLeft := t.byID[m[0]]
		right, okRight := t.byID[m[1]]
		to, ok := t.byID[m[0]+m[1]]
		if !okLeft || !okRight || !ok {
			return nil, fmt.Errorf("merges: merge %d (%q, %q) has a part or a result that is not in the vocabulary", rank, m[0], m[1])
		}
		p := pair{left, right}
		t.merges = append(t.merges, merge{p, to})
		t.ranks.put(p, uint32(rank)) // the last of two alike counts, as elsewhere
	}
	return t, nil
}

// inUTF8 tells whether a byte can be part of UTF-8.
func inUTF8(b byte) bool { return b != 0xc0 && b != 0xc1 && b < 0xf5 }

func (t *BPE) Kind() string            { return "bpe" }
func (t *BPE) Unknown() (uint32, bool) { return 0, false }

// AppendText writes the bytes of a token, and special tokens as they are.
func (t *BPE) AppendText(dst []byte, _ int64, id uint32) []byte {
	token := t.Token(id)
	if t.literal[id] {
		return append(dst, token...)
	}
	for _, c := range token {
		dst = append(dst, byte(charBytes[c]))
	}
	return dst
}
