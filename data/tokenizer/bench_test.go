package tokenizer

import (
	"bytes"
	"os"
	"strings"
	"sync"
	"testing"
)

// benchText is the text of the benchmarks: the file that KOALA_LM_BENCH_TEXT
// names, or the made-up text of the fixtures many times over.
func benchText(b *testing.B) []byte {
	b.Helper()
	path := os.Getenv("KOALA_LM_BENCH_TEXT")
	if path == "" {
		return bytes.Repeat(fixture(b, "text.txt"), 100)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	return text
}

const benchVocab = 8000

// halves cuts a text in two at a line end near its middle.
func halves(text []byte) [][]byte {
	cut := len(text)/2 + bytes.IndexByte(text[len(text)/2:], '\n') + 1
	return [][]byte{text[:cut], text[cut:]}
}

func benchBPE(b *testing.B, text []byte) Tokenizer {
	return learn(b, bpeKind, TrainOptions{Size: benchVocab}, 1, string(text))
}

// benchEncode encodes the parts in parallel, with one worker each. Every round
// starts with an empty cache.
func benchEncode(b *testing.B, t Tokenizer, parts ...[]byte) {
	size := 0
	dst := make([][]uint32, len(parts))
	for i, part := range parts {
		size += len(part)
		dst[i] = make([]uint32, 0, len(part))
	}
	b.SetBytes(int64(size))
	for b.Loop() {
		var wg sync.WaitGroup
		for i, part := range parts {
			wg.Go(func() {
				if _, err := t.NewEncoder().Encode(dst[i], part, Document); err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
	}
}

func BenchmarkEncodeBPE(b *testing.B) {
	text := benchText(b)
	benchEncode(b, benchBPE(b, text), text)
}

func BenchmarkEncodeBPEParallel(b *testing.B) {
	text := benchText(b)
	benchEncode(b, benchBPE(b, text), halves(text)...)
}

func BenchmarkEncodeWord(b *testing.B) {
	text := benchText(b)
	benchEncode(b, learn(b, wordKind, TrainOptions{}, 1, string(text)), text)
}

func BenchmarkEncodeWordParallel(b *testing.B) {
	text := benchText(b)
	benchEncode(b, learn(b, wordKind, TrainOptions{}, 1, string(text)), halves(text)...)
}

// BenchmarkFieldsAndMap is the simplest word tokenizer, for comparison.
func BenchmarkFieldsAndMap(b *testing.B) {
	text := string(benchText(b))
	w := learn(b, wordKind, TrainOptions{}, 1, text).(*Word)
	vocabulary := map[string]uint32{}
	for id := range uint32(w.Vocab()) {
		vocabulary[w.Token(id)] = id
	}
	ids := make([]uint32, 0, len(text))
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		ids = ids[:0]
		for line := range strings.Lines(text) {
			for _, word := range strings.Fields(line) {
				id, ok := vocabulary[word]
				if !ok {
					id = w.unk
				}
				ids = append(ids, id)
			}
			ids = append(ids, w.eos)
		}
	}
}

func BenchmarkCountWords(b *testing.B) {
	text := benchText(b)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		CountWords(text)
	}
}

func benchTrain(b *testing.B, parts ...[]byte) {
	size := 0
	for _, part := range parts {
		size += len(part)
	}
	b.SetBytes(int64(size))
	for b.Loop() {
		trainer, err := bpeKind.NewTrainer(TrainOptions{Size: benchVocab})
		if err != nil {
			b.Fatal(err)
		}
		var wg sync.WaitGroup
		for _, part := range parts {
			counter := trainer.NewCounter()
			wg.Go(func() { counter.Add(part, 0, Document) })
		}
		wg.Wait()
		if _, err := trainer.Train(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTrainBPE(b *testing.B) { benchTrain(b, benchText(b)) }

func BenchmarkTrainBPEParallel(b *testing.B) { benchTrain(b, halves(benchText(b))...) }

// benchFile is the tokenizer file of the benchmarks of files: the one that
// KOALA_LM_BENCH_TOKENIZER names.
func benchFile(b *testing.B) (content []byte) {
	b.Helper()
	path := os.Getenv("KOALA_LM_BENCH_TOKENIZER")
	if path == "" {
		b.Skip("KOALA_LM_BENCH_TOKENIZER names no tokenizer file")
	}
	content, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	return content
}

func parseFile(b *testing.B, content []byte) Tokenizer {
	b.Helper()
	t, err := Parse(content)
	if err != nil {
		b.Fatal(err)
	}
	return t
}

func BenchmarkLoadFile(b *testing.B) {
	content := benchFile(b)
	for b.Loop() {
		parseFile(b, content)
	}
}

func BenchmarkEncodeFile(b *testing.B) {
	benchEncode(b, parseFile(b, benchFile(b)), benchText(b))
}
