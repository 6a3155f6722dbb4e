package tokenizer

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"unicode"
	"unicode/utf8"
)

// addedToken is an entry of added_tokens in tokenizer.json.
type addedToken struct {
	ID         uint32 `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"` // matches only between characters that are not part of a word
	Lstrip     bool   `json:"lstrip"`      // takes the white space on its left
	Rstrip     bool   `json:"rstrip"`      // takes the white space on its right
	Normalized bool   `json:"normalized"`  // matches in normalized text
	Special    bool   `json:"special"`     // matches in text only after SpecialInText
}

// addedFinder finds added tokens that text spells out: at each place the longest,
// from left to right. A special token that stays text is skipped whole: no other
// token is found within it, as in Hugging Face's tokenizers.
type addedFinder struct {
	trie    *trie     // of the tokens
	starts  [256]bool // first bytes of tokens
	first   byte      // the first byte of the last token
	same    bool      // all tokens start with first
	tokens  []addedToken
	ignored []bool // by token: it stays text
	longest int
	strips  bool // some token takes white space next to it
}

// newAddedFinder returns nil if there is nothing to find. If two tokens have one
// spelling, the last one counts.
func newAddedFinder(tokens []addedToken, special bool) *addedFinder {
	f := &addedFinder{tokens: tokens}
	texts := make([]string, len(tokens))
	for i, a := range tokens {
		f.ignored = append(f.ignored, a.Special && !special)
		if texts[i] = a.Content; a.Content == "" {
			continue
		}
		f.same = f.longest == 0 || f.same && f.first == a.Content[0]
		f.first = a.Content[0]
		f.starts[f.first] = true
		f.longest = max(f.longest, len(a.Content))
		f.strips = f.strips || a.Lstrip || a.Rstrip
	}
	if f.longest == 0 {
		return nil
	}
	f.trie = newTrie(texts)
	return f
}

// at returns the longest token at text[i:]. open reports whether text ends where
// a longer token may continue.
func (f *addedFinder) at(text []byte, i int) (token int32, end int, open bool) {
	token, node := -1, uint32(0)
	for j := i; ; j++ {
		if j == len(text) {
			return token, end, true
		}
		if node = f.trie.child(node, text[j]); node == 0 {
			return token, end, false
		}
		if value := f.trie.nodes[node].value; value >= 0 {
			token, end = value, j+1
		}
	}
}

// seek returns the next place from i where a token may start.
func (f *addedFinder) seek(text []byte, i int) int {
	if f.same {
		if n := bytes.IndexByte(text[i:], f.first); n >= 0 {
			return i + n
		}
		return len(text)
	}
	for i < len(text) && !f.starts[text[i]] {
		i++
	}
	return i
}

// split calls plain with the text between tokens and token with each token.
func (f *addedFinder) split(text []byte, plain func(start, end int) error, token func(id uint32)) error {
	from := 0
	if f != nil {
		for i := 0; i < len(text); {
			if i = f.seek(text, i); i == len(text) {
				break
			}
			at, stop, _ := f.at(text, i)
			if at < 0 {
				i++
				continue
			}
			start := i
			i = stop
			a := &f.tokens[at]
			if f.ignored[at] || a.SingleWord && (endsWithWord(text[:start]) || startsWithWord(text[stop:])) {
				continue
			}
			if a.Lstrip {
				start = max(start-spaceAtEnd(text[:start]), from)
			}
			if a.Rstrip {
				stop += spaceAtStart(text[stop:])
			}
			if from < start {
				if err := plain(from, start); err != nil {
					return err
				}
			}
			token(a.ID)
			from = stop
		}
	}
	if from < len(text) {
		return plain(from, len(text))
	}
	return nil
}

// separate reports whether no token spans left and right or depends on both.
func (f *addedFinder) separate(left, right []byte) bool {
	if f == nil {
		return true
	}
	both := append(append(make([]byte, 0, len(left)+len(right)), left...), right...)
	place := len(left)
	for i := max(0, place-f.longest); i <= place && i < len(both); i++ {
		if !f.starts[both[i]] {
			continue
		}
		if at, end, open := f.at(both, i); open || at >= 0 && end >= place {
			return false
		}
	}
	if !f.strips {
		return true
	}
	// A token may take white space from beyond the place.
	if n := spaceAtStart(right); spaceAtEnd(left) > 0 {
		for i := place; i <= place+n && i < len(both); i++ {
			if f.starts[both[i]] {
				return false
			}
		}
	} else if n > 0 {
		return !f.endsAt(both, place)
	}
	if n := spaceAtEnd(left); n > 0 && spaceAtStart(right) > 0 {
		return n < len(left) && !f.endsAt(both, place-n)
	}
	return true
}

// endsAt reports whether a token ends at a place in text.
func (f *addedFinder) endsAt(text []byte, place int) bool {
	for i := max(0, place-f.longest); i < place; i++ {
		if at, end, _ := f.at(text[:place], i); at >= 0 && end == place {
			return true
		}
	}
	return false
}

var addedWords = sync.OnceValue(func() *bitset { return newBitset(wordSet()) })

func endsWithWord(text []byte) bool {
	r, n := utf8.DecodeLastRune(text)
	return n > 0 && addedWords().has(r)
}

func startsWithWord(text []byte) bool {
	r, n := utf8.DecodeRune(text)
	return n > 0 && addedWords().has(r)
}

// spaceAtStart returns the length of the white space at the start of text.
func spaceAtStart(text []byte) int {
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRune(text[i:])
		if !unicode.IsSpace(r) {
			return i
		}
		i += n
	}
	return len(text)
}

// spaceAtEnd returns the length of the white space at the end of text.
func spaceAtEnd(text []byte) int {
	i := len(text)
	for i > 0 {
		r, n := utf8.DecodeLastRune(text[:i])
		if !unicode.IsSpace(r) {
			break
		}
		i -= n
	}
	return len(text) - i
}

// addTokens adds the tokens of added_tokens. A token that the model has keeps its
// id. The other tokens get the next ids in their order, whatever ids the file
// gives them, as Hugging Face numbers them when it loads a file.
func (t *vocabulary) addTokens(added []addedToken) error {
	next := uint32(t.modelSize)
	position := map[string]int{}
	for _, a := range added {
		if a.Content == "" {
			continue
		}
		if id, ok := t.byID[a.Content]; ok {
			a.ID = id
		} else {
			a.ID = next
			next++
			t.set(a.ID, a.Content)
			t.beyond[a.Content] = a.ID
		}
		if i, ok := position[a.Content]; ok { // a token that is listed twice: the last entry counts
			t.added[i] = a
			continue
		}
		position[a.Content] = len(t.added)
		t.added = append(t.added, a)
		t.literal[a.ID] = true
	}
	if len(t.written) > maxVocabulary {
		return fmt.Errorf("there are %d ids, more than %d", len(t.written), maxVocabulary)
	}
	for _, name := range separators {
		if id, ok := t.byID[name]; ok && t.literal[id] {
			t.separator = int64(id)
			break
		}
	}
	return nil
}

// SpecialInText makes t encode special tokens that are spelled out in text as
// single tokens.
func SpecialInText(t Tokenizer) error {
	if t, ok := t.(interface{ specialInText() error }); ok {
		return t.specialInText()
	}
	return errors.New("this tokenizer has no special tokens to find in text")
}
