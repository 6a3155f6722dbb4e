package tokenizer

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// randomBPE returns a byte-level BPE with random merges of few characters, which stand in
// any order of rank, and with tokens that no merge makes.
func randomBPE(t testing.TB, rng *rand.Rand, letters string, pre string) Tokenizer {
	t.Helper()
	var vocab, merges []string
	for b := range 256 {
		vocab = append(vocab, string(byteChars[b]))
	}
	tokens := strings.Split(string(bytesAsChars{}.see(nil, []byte(letters))), "")
	for range 4 + rng.IntN(24) {
		left, right := tokens[rng.IntN(len(tokens))], tokens[rng.IntN(len(tokens))]
		if joined := left + right; len(joined) < 40 && !slices.Contains(vocab, joined) {
			vocab, tokens = append(vocab, joined), append(tokens, joined)
			merges = append(merges, left+" "+right)
		}
	}
	rng.Shuffle(len(merges), func(i, j int) { merges[i], merges[j] = merges[j], merges[i] })
	var b strings.Builder
	b.WriteString(`{"pre_tokenizer":` + pre + `,"model":{"type":"BPE","ignore_merges":` + fmt.Sprint(rng.IntN(2) == 0) + `,"vocab":{`)
	for i, token := range vocab {
		fmt.Fprintf(&b, "%s%q:%d", map[bool]string{true: ","}[i > 0], token, i)
	}
	fmt.Fprintf(&b, `},"merges":[`)
	for i, merge := range merges {
		fmt.Fprintf(&b, "%s%q", map[bool]string{true: ","}[i > 0], merge)
	}
	b.WriteString(`]}}`)
	tok, err := Parse([]byte(b.String()))
	if err != nil {
		t.Fatalf("%v: %s", err, b.String())
	}
	return tok
}

func randomText(rng *rand.Rand, letters string, n int) string {
	all := []rune(letters)
	var b strings.Builder
	for b.Len() < n {
		r := all[rng.IntN(len(all))]
		for range 1 + rng.IntN(1+rng.IntN(20)) {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// The encoding of every prefix, and the settled boundaries, are those of the encoding by
// merges, whatever the ranks are and however the piece goes on.
func TestSettle(t *testing.T) {
	settled, seeds := 0, uint64(100)
	if testing.Short() {
		seeds = 20
	}
	for seed := range seeds {
		rng := rand.New(rand.NewPCG(seed, 0))
		letters := []string{"a", "ab", "abc", "é"}[rng.IntN(4)]
		m := randomBPE(t, rng, letters, `{"type":"ByteLevel","use_regex":false,"add_prefix_space":false}`).(*Pipeline).model.(*bpe)
		text := randomText(rng, letters, 60+rng.IntN(200))
		ids := func(text string) []uint32 {
			var merger longMerger
			var symbols []uint32
			for _, b := range []byte(text) {
				symbols = append(symbols, m.bytes[b])
			}
			return merger.merge(m.merges, nil, symbols)
		}
		s := settler{m: m}
		for known := 1; known <= len(text); known++ {
			n := s.settle([]byte(text[:known]))
			if got, want := s.append(nil, known), ids(text[:known]); !slices.Equal(got, want) {
				t.Fatalf("seed %d, %q: %d, want %d", seed, text[:known], got, want)
			}
			if n > 0 {
				settled++
				if parts := append(ids(text[:n]), ids(text[n:])...); !slices.Equal(parts, ids(text)) {
					t.Fatalf("seed %d, %q, %d bytes known: %d is no boundary", seed, text, known, n)
				}
			}
		}
	}
	if settled < 30*int(seeds) {
		t.Errorf("only %d places were settled", settled)
	}
}

// A text that is one piece is cut and encoded in parts with the ids of the whole.
func TestCutWithin(t *testing.T) {
	split := func(pattern string) string {
		return fmt.Sprintf(`{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":%q},"behavior":"Isolated","invert":false},{"type":"ByteLevel","use_regex":false,"add_prefix_space":false}]}`, pattern)
	}
	for name, pre := range map[string]string{
		"gpt2":   `{"type":"ByteLevel","add_prefix_space":false}`,
		"prefix": `{"type":"ByteLevel","add_prefix_space":true}`,
		"none":   `{"type":"ByteLevel","use_regex":false,"add_prefix_space":false}`,
		"mark":   `{"type":"ByteLevel","use_regex":false,"add_prefix_space":true}`,
		"cl100k": split(cl100kPattern),
		"qwen2":  split(qwen2Pattern),
		"o200k":  split(o200kPattern),
	} {
		t.Run(name, func(t *testing.T) {
			texts, total := []string{"a", "日本語", " ", "\n", " \n", "!-", "!'", "1", "ab", "aé"}, 0
			if testing.Short() {
				texts = texts[:3]
			}
			for _, letters := range texts {
				cuts := 0
				for seed := range uint64(2) {
					rng := rand.New(rand.NewPCG(seed, 1))
					tok := randomBPE(t, rng, letters, pre)
					head := []string{"", "so ", "x", "\n", " 7!"}[rng.IntN(5)]
					text := head + randomText(rng, letters, 2*longPiece) + []string{"", "a", "s b", "!", "\n", "\n\n c", "1"}[rng.IntN(7)]
					want, err := tok.NewEncoder().Encode(nil, []byte(text), Document)
					if err != nil {
						t.Fatal(err)
					}
					e := tok.NewEncoder()
					for _, known := range []int{longPiece + 2000, 2*longPiece - 100} {
						cut := e.Cut([]byte(text[:known]), Starts)
						if cut == 0 {
							continue
						}
						if cut > len(head)+1 {
							cuts++
						}
						got, _ := e.Encode(nil, []byte(text[:cut]), Starts)
						got, _ = e.Encode(got, []byte(text[cut:]), Ends)
						if !slices.Equal(got, want) {
							t.Fatalf("%q..., seed %d, %d bytes known: other ids if cut at %d", text[:20], seed, known, cut)
						}
					}
				}
				t.Logf("%q: %d of 4 texts cut", letters, cuts)
				total += cuts
			}
			if total < len(texts) {
				t.Errorf("only %d of %d texts were cut", total, 4*len(texts))
			}
		})
	}
}

// A splitter cuts the rest of a piece as it cuts the piece, wherever it says so.
func TestGoesOn(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for name, pattern := range map[string]string{"gpt2": gpt2Pattern, "cl100k": cl100kPattern, "qwen2": qwen2Pattern, "o200k": o200kPattern, "tekken": tekkenPattern} {
		t.Run(name, func(t *testing.T) {
			s, inside := knownSplitter(pattern), 0
			for range 20000 {
				text := []byte(randomText(rng, []string{"a ", "ab!' ", " \n!a", "'sa", "1a ", "!\n \r", "日a ", "aAB日", "日AB\u0301", "!/\n\u0301"}[rng.IntN(10)], 12))
				rest := []byte(randomText(rng, "a !'\n1", 4))
				start := 0
				for end := s.next(text, 0); end < len(text); end = s.next(text, end) {
					start = end
				}
				for at := start + 1; at+3 <= len(text); at++ { // more than two characters follow
					if text[at]&0xc0 == 0x80 || len([]rune(string(text[at:]))) < 3 || !s.goesOn(text, start, at) {
						continue
					}
					inside++
					whole := slices.Concat(text, rest)
					end := s.next(whole, start)
					if got := s.next(text[:at], start); got != at {
						t.Fatalf("%q from %d: the piece ends at %d", text[:at], start, got)
					}
					if got := s.next(whole, at); got != end || end <= at {
						t.Fatalf("%q from %d: the piece ends at %d, from %d on at %d", whole, start, end, at, got)
					}
				}
			}
			if inside < 1000 {
				t.Errorf("only %d places were inside", inside)
			}
		})
	}
}

// A long piece gets the best segmentation of the whole: Viterbi's, over all of it.
func TestLongUnigram(t *testing.T) {
	for _, c := range []struct{ letters, unknown string }{{"a", `0`}, {"ab", `0`}, {"aXY", `0`}, {" a", `null`}, {"日本", `0`}} {
		rng := rand.New(rand.NewPCG(3, uint64(len(c.letters))))
		scores := map[string]float64{"<unk>": 0}
		vocab := `["<unk>",0]`
		ids := map[string]uint32{"<unk>": 0}
		for len(ids) < 12 {
			token := randomText(rng, strings.NewReplacer("X", "", "Y", "").Replace(c.letters), 1+rng.IntN(12))
			if len(ids) <= len([]rune(c.letters)) && !strings.Contains("XY", string([]rune(c.letters)[len(ids)-1])) {
				token = string([]rune(c.letters)[len(ids)-1]) // each letter is a token
			}
			if _, ok := ids[token]; ok {
				token += token
			}
			if _, ok := ids[token]; !ok {
				ids[token], scores[token] = uint32(len(ids)), -float64(1+rng.IntN(40))/4
				vocab += fmt.Sprintf(",[%q,%v]", token, scores[token])
			}
		}
		tok, err := Parse([]byte(`{"model":{"type":"Unigram","unk_id":` + c.unknown + `,"vocab":[` + vocab + `]}}`))
		if err != nil {
			t.Fatal(err)
		}
		text := randomText(rng, c.letters, 3*longPiece)
		lowest, longest := 0.0, 0
		for token, s := range scores {
			lowest, longest = min(lowest, s), max(longest, len(token))
		}
		// best[i] is the best segmentation of text[:i].
		type step struct {
			score float64
			from  int
			token string
		}
		best := make([]*step, len(text)+1)
		best[0] = &step{}
		for i, r := range text {
			offer := func(token, name string, score float64) {
				if end := i + len(token); best[end] == nil || best[i].score+score > best[end].score {
					best[end] = &step{best[i].score + score, i, name}
				}
			}
			for n := 1; n <= longest && i+n <= len(text); n++ {
				if score, ok := scores[text[i:i+n]]; ok {
					offer(text[i:i+n], text[i:i+n], score)
				}
			}
			if _, ok := ids[string(r)]; !ok {
				offer(string(r), "<unk>", lowest-10)
			}
		}
		var want []uint32
		for at := len(text); at > 0; at = best[at].from {
			if n := len(want); best[at].token != "<unk>" || n == 0 || want[n-1] != 0 {
				want = append(want, ids[best[at].token])
			}
		}
		slices.Reverse(want)
		got, err := tok.NewEncoder().Encode(nil, []byte(text), Document)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %d ids %v, want %d", c.letters, len(got), err, len(want))
		}
	}
}
