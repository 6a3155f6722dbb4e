package prepare

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/data/tokenizer"
)

// tree writes files into a new folder.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// run prepares and returns the text of each split, decoded.
func run(t *testing.T, opts Options) (map[string]string, data.Info) {
	t.Helper()
	if opts.Out == "" {
		opts.Out = filepath.Join(t.TempDir(), "out")
	}
	info, err := Run(context.Background(), opts)
	if err != nil {
		t.Fatal(err)
	}
	d, err := data.Open(opts.Out)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	tok, err := d.Tokenizer()
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for _, name := range data.SplitNames {
		tokens, ok := d.Split(name)
		if !ok {
			continue
		}
		ids := make([]uint32, tokens.Len())
		for i := range ids {
			ids[i] = uint32(tokens.At(i))
		}
		texts[name] = tokenizer.Decode(tok, ids)
	}
	return texts, info
}

func numbered(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "line %d of the same text\n", i)
	}
	return b.String()
}

func TestSplitsAtLines(t *testing.T) {
	text := numbered(1000)
	dir := tree(t, map[string]string{"a.txt": text[:len(text)/3], "b.txt": text[len(text)/3:]})
	got, info := run(t, Options{Paths: []string{dir}, Valid: 0.1, Test: 0.2})
	if info.Split.By != "lines" {
		t.Errorf("split by %s, want lines", info.Split.By)
	}
	for name, want := range map[string]float64{"train": 0.7, "valid": 0.1, "test": 0.2} {
		share := float64(info.Splits[name].Bytes) / float64(len(text))
		if share < want-0.01 || share > want+0.01 {
			t.Errorf("%s has %.3f of the text, want %v", name, share, want)
		}
	}
	if !strings.HasPrefix(got["train"], "line 0 of") || !strings.Contains(got["test"], " of the same text\n") {
		t.Errorf("train starts %.20q, test %.20q", got["train"], got["test"])
	}
}

func TestSplitsTextWithoutLines(t *testing.T) {
	text := strings.ReplaceAll(numbered(1000), "\n", " ")
	_, info := run(t, Options{Paths: []string{filepath.Join(tree(t, map[string]string{"a.txt": text}), "a.txt")}, Valid: 0.1, Test: 0.1})
	if share := float64(info.Splits["valid"].Bytes) / float64(len(text)); info.Split.By != "words" || share < 0.09 || share > 0.11 {
		t.Errorf("split by %s, valid has %.3f of the text", info.Split.By, share)
	}
}

func TestSplitsWholeDocuments(t *testing.T) {
	files := map[string]string{}
	for i := range 200 {
		files[fmt.Sprintf("%03d.txt", i)] = strings.Repeat(fmt.Sprintf("d%d\n", i), 50)
	}
	opts := Options{Paths: []string{tree(t, files)}, Valid: 0.1, Test: 0.1, Seed: 7}
	got, info := run(t, opts)
	if info.Split.By != "documents" || info.Split.Seed != 7 {
		t.Errorf("split %+v", info.Split)
	}
	documents := int64(0)
	for _, name := range data.SplitNames {
		documents += info.Splits[name].Documents
		if name != "train" && (info.Splits[name].Documents < 18 || info.Splits[name].Documents > 21) {
			t.Errorf("%s has %d documents, want about 20", name, info.Splits[name].Documents)
		}
	}
	if documents != 200 {
		t.Errorf("the splits have %d documents, want 200", documents)
	}
	again, _ := run(t, opts)
	if diff := cmp.Diff(got, again); diff != "" {
		t.Errorf("a second run differs:\n%s", diff)
	}
	opts.Seed = 8
	if other, _ := run(t, opts); other["train"] == got["train"] {
		t.Error("another seed draws the same documents")
	}
}

func TestLimitsInTokens(t *testing.T) {
	documents := map[string]string{}
	for i := range 150 {
		documents[fmt.Sprintf("%03d.txt", i)] = numbered(20 + i)
	}
	for name, files := range map[string]map[string]string{
		"lines":     {"a.txt": numbered(5000)},
		"documents": documents,
	} {
		t.Run(name, func(t *testing.T) {
			_, info := run(t, Options{Paths: []string{tree(t, files)}, Valid: 3000, Test: 1000})
			for name, limit := range map[string]int64{"valid": 3000, "test": 1000} {
				if got := info.Splits[name].Tokens; got > limit || got < limit*9/10 {
					t.Errorf("%s has %d tokens, want at most %d and nearly so", name, got, limit)
				}
			}
		})
	}
}

// With every tokenizer, valid and test have at most their numbers of tokens, nearly
// so, and no text is lost: what they cannot take belongs to train.
func TestLimitsLoseNoText(t *testing.T) {
	documents := map[string]string{}
	for i := range 150 {
		documents[fmt.Sprintf("%03d.txt", i)] = numbered(20 + i)
	}
	for name, files := range map[string]map[string]string{
		"lines":     {"a.txt": numbered(2000), "b.txt": "a few more lines\nof another document\n", "c.txt": numbered(1000)},
		"documents": documents,
		"words":     {"a.txt": strings.ReplaceAll(numbered(3000), "\n", " ")},
		"chinese":   {"a.txt": strings.Repeat("考拉在树上睡觉，考拉吃树叶。", 3000)},
	} {
		total := int64(0)
		for _, text := range files {
			total += int64(len(text))
		}
		for _, kind := range []string{"word", "char", "byte", "bpe"} {
			if name == "chinese" && kind == "word" {
				continue // one word
			}
			t.Run(name+" "+kind, func(t *testing.T) {
				limits := map[string]int64{"valid": 3000, "test": 1000}
				dir := tree(t, files)
				got, info := run(t, Options{Paths: []string{dir}, Valid: 3000, Test: 1000, Tokenizer: kind, VocabSize: map[string]int{"bpe": 280}[kind]})
				bytes := int64(0)
				for name, split := range info.Splits {
					bytes += split.Bytes
					if limit, ok := limits[name]; ok && (split.Tokens > limit || split.Tokens < limit*8/10) {
						t.Errorf("%s has %d tokens, want at most %d and nearly so", name, split.Tokens, limit)
					}
				}
				if bytes != total {
					t.Errorf("the splits have %d bytes of a text of %d", bytes, total)
				}
				if kind == "byte" && info.Split.By != "documents" {
					var whole string
					for _, file := range slices.Sorted(maps.Keys(files)) {
						whole += files[file]
					}
					if strings.ReplaceAll(got["train"]+got["valid"]+got["test"], tokenizer.EndOfText, "") != whole {
						t.Error("the splits in their order are not the text")
					}
				}
			})
		}
	}
}

// A number of tokens shortens a split of the corpus, however long it is.
func TestLimitsOfLayout(t *testing.T) {
	dir := tree(t, map[string]string{"train.txt": numbered(100), "valid.txt": numbered(100_000), "test.txt": strings.Repeat("x", 3<<20)})
	for _, kind := range []string{"word", "bpe", "char"} {
		_, info := run(t, Options{Paths: []string{dir}, Valid: 1000, Test: 1000, SharesGiven: true, Tokenizer: kind})
		if got := info.Splits["valid"].Tokens; got > 1000 || got < 900 {
			t.Errorf("%s: valid has %d tokens, want at most 1000 and nearly so", kind, got)
		}
		if got := info.Splits["test"].Tokens; got > 1000 || got < 1 {
			t.Errorf("%s: test has %d tokens, want at most 1000", kind, got)
		}
	}
}

func TestSplitLayout(t *testing.T) {
	dir := tree(t, map[string]string{
		"wiki.train.tokens": "a b c\n", "wiki.valid.tokens": "a c\n", "README.md": "about test data\n",
	})
	got, info := run(t, Options{Paths: []string{dir}, Valid: 0.05, Test: 0.05})
	if diff := cmp.Diff(map[string]string{"train": "a b c\n", "valid": "a c\n"}, got); diff != "" {
		t.Errorf("splits (-want +got):\n%s", diff)
	}
	if info.Split.By != "layout" {
		t.Errorf("split by %s, want layout", info.Split.By)
	}
	// A file given by name is not a split, whatever its name.
	got, _ = run(t, Options{Paths: []string{filepath.Join(dir, "wiki.train.tokens")}})
	if diff := cmp.Diff(map[string]string{"train": "a b c\n"}, got); diff != "" {
		t.Errorf("by name (-want +got):\n%s", diff)
	}
}

func TestSplitFiles(t *testing.T) {
	dir := tree(t, map[string]string{"a.txt": "a b\nc\n", "v.txt": "a x\n"})
	got, info := run(t, Options{Paths: []string{filepath.Join(dir, "a.txt")}, ValidFiles: []string{filepath.Join(dir, "v.txt")}})
	if diff := cmp.Diff(map[string]string{"train": "a b\nc\n", "valid": "a <unk>\n"}, got); diff != "" {
		t.Errorf("splits (-want +got):\n%s", diff)
	}
	if info.Split.By != "files" {
		t.Errorf("split by %s, want files", info.Split.By)
	}
}

// The folder is the same to the byte for any number of workers.
func TestWorkersDoNotShow(t *testing.T) {
	var text strings.Builder
	for i := range 120_000 {
		fmt.Fprintf(&text, "w%d and w%d in line %d\n", i%977, i*i%4099, i/100)
	}
	dir := tree(t, map[string]string{"a.txt": text.String(), "b.txt": "a few more\n", "c.txt": text.String()[:1<<20]})
	want := map[string]string{}
	for _, workers := range []int{1, 2, 5} {
		out := filepath.Join(t.TempDir(), "same")
		run(t, Options{Paths: []string{dir}, Out: out, Valid: 0.05, Test: 0.05, Workers: workers})
		for _, name := range []string{"dataset.json", "tokenizer.json", "train.bin", "train.starts", "valid.bin", "valid.starts", "test.bin", "test.starts"} {
			content, err := os.ReadFile(filepath.Join(out, name))
			if err != nil {
				t.Fatal(err)
			}
			if want[name] == "" {
				want[name] = string(content)
			} else if want[name] != string(content) {
				t.Errorf("%s differs with %d workers", name, workers)
			}
		}
	}
}

func TestReplaceInvalid(t *testing.T) {
	dir := tree(t, map[string]string{"a.txt": "a\xff b\xe2\x82 \xe2\x82\xac\n"})
	got, _ := run(t, Options{Paths: []string{dir}, ReplaceInvalid: true})
	if want := "a\uFFFD b\uFFFD\uFFFD €\n"; got["train"] != want {
		t.Errorf("train is %q, want %q", got["train"], want)
	}
}

// An error of the input is one line, and leaves no files.
func TestBadInput(t *testing.T) {
	dir := tree(t, map[string]string{
		"empty.txt": "", "bad.txt": "one\ntwo\nth\xffree\n", "cut.txt": "one\n\xe2\x82", "line.txt": "one\n",
		"folder/picture.png": "x", "split/train.txt": "a\n",
	})
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, c := range map[string]struct {
		opts Options
		want string
	}{
		"missing":        {Options{Paths: []string{at("nothing.txt")}}, "nothing.txt: no such file"},
		"glob":           {Options{Paths: []string{at("*.csv")}}, "*.csv: no file matches"},
		"empty":          {Options{Paths: []string{at("empty.txt")}}, "no text in "},
		"no text":        {Options{Paths: []string{at("folder")}}, "has no text in it"},
		"invalid":        {Options{Paths: []string{at("bad.txt")}}, "bad.txt:3: byte 0xff is not UTF-8"},
		"cut":            {Options{Paths: []string{at("cut.txt")}}, "cut.txt:2: byte 0xe2 is not UTF-8"},
		"short":          {Options{Paths: []string{at("line.txt")}, Valid: 0.1}, "too short"},
		"corpus":         {Options{Corpus: "godot"}, `"godot"`},
		"two splits":     {Options{Paths: []string{at("split"), at("line.txt")}}, "prepare it alone"},
		"held split":     {Options{Paths: []string{at("split")}, ValidFiles: []string{at("line.txt")}}, "splits of its own"},
		"share of split": {Options{Paths: []string{at("split")}, Valid: 0.1, SharesGiven: true}, "splits of its own"},
		"vocabulary":     {Options{Paths: []string{at("line.txt")}, VocabSize: 2}, "--vocab-size is 2"},
		"fractions":      {Options{Paths: []string{at("line.txt")}, Valid: 0.5, Test: 0.5}, "nothing to train on"},
		"negative":       {Options{Paths: []string{at("line.txt")}, Valid: -1}, "--valid is -1"},
		"both":           {Options{Paths: []string{at("line.txt")}, Corpus: "godoc"}, "exclude each other"},
		"unwritable":     {Options{Paths: []string{at("line.txt")}, Out: "/proc/none/out"}, "/proc/none"},
		"out is a file":  {Options{Paths: []string{at("line.txt")}, Out: at("line.txt")}, "is a file"},
		"out is there":   {Options{Paths: []string{at("line.txt")}, Out: at("folder")}, "--force"},
		"not a dataset":  {Options{Paths: []string{at("line.txt")}, Out: at("folder"), Force: true}, "not a dataset"},
	} {
		t.Run(name, func(t *testing.T) {
			parent := t.TempDir()
			if c.opts.Out == "" {
				c.opts.Out = filepath.Join(parent, "prepared", "out")
			}
			_, err := Run(context.Background(), c.opts)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error is %v, want one with %q", err, c.want)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error has several lines: %v", err)
			}
			if left, _ := os.ReadDir(parent); len(left) > 0 {
				t.Errorf("%s is left", left[0].Name())
			}
		})
	}
}

// A text that gives no tokens makes no dataset.
func TestNoTokens(t *testing.T) {
	dir := tree(t, map[string]string{
		"a.txt":     "\n \n",
		"bert.json": `{"model":{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":100,"vocab":{"[UNK]":0,"a":1}},"pre_tokenizer":{"type":"WhitespaceSplit"}}`,
	})
	out := filepath.Join(t.TempDir(), "out")
	_, err := Run(context.Background(), Options{Paths: []string{filepath.Join(dir, "a.txt")}, Out: out, Tokenizer: filepath.Join(dir, "bert.json")})
	if err == nil || !strings.Contains(err.Error(), "gives no token") {
		t.Errorf("error is %v", err)
	}
	if _, err := os.Stat(out); !os.IsNotExist(err) {
		t.Errorf("the folder is there: %v", err)
	}
}

// The index says where each document's tokens start, also those of documents that
// are longer than a piece; a separator belongs to the document after it.
func TestDocumentStarts(t *testing.T) {
	files, lengths := map[string]string{}, []int{}
	for i := range 30 {
		n := 1 + i*i*37
		if i == 11 {
			n = 3 << 20
		}
		files[fmt.Sprintf("%02d.txt", i)] = strings.Repeat("x y\n", (n+3)/4)[:n]
		lengths = append(lengths, n)
	}
	dir := tree(t, files)
	out := filepath.Join(t.TempDir(), "out")
	if _, err := Run(context.Background(), Options{Paths: []string{dir}, Out: out, Tokenizer: "byte", Workers: 3}); err != nil {
		t.Fatal(err)
	}
	d, err := data.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	train, _ := d.Split("train")
	got := make([]int64, train.Len())
	if err := train.ReadStarts(got, 0); err != nil {
		t.Fatal(err)
	}
	at := 0
	for i, n := range lengths {
		if i > 0 {
			n++ // the separator
		}
		if at+n > len(got) || got[at] != int64(at) || got[at+n-1] != int64(at) {
			t.Fatalf("document %d of %d tokens does not start at %d", i, n, at)
		}
		at += n
	}
	part := make([]int64, 1000)
	if err := train.ReadStarts(part, len(got)-1000); err != nil || !cmp.Equal(part, got[len(got)-1000:]) {
		t.Errorf("a part reads otherwise, or %v", err)
	}
	if err := train.ReadStarts(part, len(got)-999); err == nil {
		t.Error("a read past the end succeeds")
	}
}

// --separator names the token between documents.
func TestSeparator(t *testing.T) {
	dir := tree(t, map[string]string{
		"a.jsonl":    "{\"text\":\"a\"}\n{\"text\":\"b\"}\n",
		"words.json": `{"model":{"type":"WordLevel","unk_token":"?","vocab":{"?":0,"a":1,"b":2,"<end>":3}},"pre_tokenizer":{"type":"WhitespaceSplit"}}`,
	})
	for _, c := range []struct {
		separator, bos, eos, want string
	}{
		{"", "", "", "a b"}, {"<end>", "", "", "a <end> b"}, {"none", "", "", "a b"},
		{"", "<end>", "", "<end> a <end> b"}, {"", "", "<end>", "a <end> b <end>"}, {"?", "a", "b", "a a b ? a b b"},
	} {
		got, info := run(t, Options{
			Paths: []string{filepath.Join(dir, "a.jsonl")}, Tokenizer: filepath.Join(dir, "words.json"),
			Separator: c.separator, BOS: c.bos, EOS: c.eos,
		})
		if got["train"] != c.want || info.Splits["train"].Words != 4 || (info.Tokenizer.BOS != nil) != (c.bos != "") {
			t.Errorf("separator %q, bos %q, eos %q: train is %q, want %q", c.separator, c.bos, c.eos, got["train"], c.want)
		}
	}
	_, err := Run(context.Background(), Options{
		Paths: []string{filepath.Join(dir, "a.jsonl")}, Tokenizer: filepath.Join(dir, "words.json"), Separator: "<no>", Out: filepath.Join(t.TempDir(), "out"),
	})
	if err == nil || !strings.Contains(err.Error(), `no token "<no>"`) {
		t.Errorf("error is %v", err)
	}
}

// The bytes of a mix have the proportions of the weights. Each document occurs
// once, in an order drawn from the seed.
func TestMix(t *testing.T) {
	lines := func(word string, n int) string {
		var text strings.Builder
		for i := range n {
			fmt.Fprintf(&text, "{\"text\":\"%s%04d\"}\n", word, i)
		}
		return text.String()
	}
	dir := tree(t, map[string]string{"a.jsonl": lines("a", 400), "b.jsonl": lines("b", 300)})
	opts := Options{Mix: []MixPart{{filepath.Join(dir, "a.jsonl"), 3}, {filepath.Join(dir, "b.jsonl"), 1}}, Valid: 0.1, Seed: 1, Tokenizer: "byte"}
	got, info := run(t, opts)
	again, _ := run(t, opts)
	opts.Seed = 2
	other, _ := run(t, opts)
	all := got["train"] + got["valid"]
	if a, b := strings.Count(all, "a"), strings.Count(all, "b"); a != 400 || b < 133 || b > 135 {
		t.Errorf("%d documents of a and %d of b, want 400 and 133 to 135", a, b)
	}
	if got["train"] != again["train"] || got["train"] == other["train"] {
		t.Error("the order does not follow from the seed")
	}
	if strings.Count(all, "a0007") != 1 || info.Mix[opts.Mix[0].Path] != 3 {
		t.Errorf("a0007 is there %d times, mix is %v", strings.Count(all, "a0007"), info.Mix)
	}
	for _, wrong := range []string{"a", "=1", "a=0", "a=-1", "a=x", "a=NaN"} {
		if _, err := ParseMix(wrong); err == nil {
			t.Errorf("%q: no error", wrong)
		}
	}
}

// One of several equal documents is kept, and train has no document of valid.
func TestDedupe(t *testing.T) {
	dir := tree(t, map[string]string{
		"a.jsonl": "{\"text\":\"one\"}\n{\"text\":\"two\"}\n{\"text\":\"one\"}\n{\"text\":\"held\"}\n",
		"v.jsonl": "{\"text\":\"held\"}\n",
	})
	got, info := run(t, Options{Paths: []string{filepath.Join(dir, "a.jsonl")}, ValidFiles: []string{filepath.Join(dir, "v.jsonl")}, Dedupe: true})
	if got["train"] != "one\ntwo\n" || got["valid"] != "held\n" && got["valid"] != "<unk>\n" || info.Dropped != 2 {
		t.Errorf("train %q, valid %q, %d dropped", got["train"], got["valid"], info.Dropped)
	}
}

// A dry run prints statistics of the text and leaves no files.
func TestDryRun(t *testing.T) {
	dir := tree(t, map[string]string{"a.jsonl": "{\"text\":\"one two\"}\n{\"text\":\"one two\"}\n{\"text\":\"три\"}\n"})
	parent := t.TempDir()
	info, err := Run(context.Background(), Options{Paths: []string{filepath.Join(dir, "a.jsonl")}, Out: filepath.Join(parent, "out"), DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	got := info.Text["train"]
	if got.Documents != 3 || got.Duplicates != 1 || got.Words != 5 || got.Types != 3 || got.Median != 7 || got.Scripts["Cyrillic"] != 0.2 {
		t.Errorf("%+v", got)
	}
	if info.Splits["train"].Tokens != 8 {
		t.Errorf("%d tokens, want 8", info.Splits["train"].Tokens)
	}
	if left, _ := os.ReadDir(parent); len(left) > 0 {
		t.Errorf("%s is left", left[0].Name())
	}
}

// --sample draws documents from the seed, --max-tokens ends train exactly.
func TestSampleAndMaxTokens(t *testing.T) {
	documents := map[string]string{}
	for i := range 400 {
		documents[fmt.Sprintf("%03d.txt", i)] = fmt.Sprintf("d%03d\n", i)
	}
	opts := Options{Paths: []string{tree(t, documents)}, Sample: 0.25, Seed: 3, Tokenizer: "byte", Separator: "none"}
	got, info := run(t, opts)
	if info.Splits["train"].Documents != 100 || info.Sample != 0.25 {
		t.Errorf("%d documents, sample %v", info.Splits["train"].Documents, info.Sample)
	}
	opts.Seed = 4
	if other, _ := run(t, opts); other["train"] == got["train"] {
		t.Error("another seed draws the same documents")
	}
	text := numbered(100_000)
	dir := tree(t, map[string]string{"a.txt": text})
	if got, _ := run(t, Options{Paths: []string{dir}, Sample: 0.5, Tokenizer: "byte"}); got["train"] != text[:len(got["train"])] || len(got["train"]) < len(text)/2 || len(got["train"]) > len(text)/2+40 {
		t.Errorf("half of %d bytes are %d", len(text), len(got["train"]))
	}
	for _, limit := range []int64{1, 4, 1_000_000, 1 << 20, 1<<20 + 3, int64(len(text)), 1 << 40} {
		for _, workers := range []int{1, 3} {
			got, info := run(t, Options{Paths: []string{dir}, MaxTokens: limit, Tokenizer: "byte", Workers: workers})
			n := int64(len(got["train"]))
			if n > limit || n < min(limit, int64(len(text)))-40 || got["train"] != text[:n] || info.Splits["train"].Bytes != n {
				t.Errorf("--max-tokens %d gives %d tokens", limit, n)
			}
		}
	}
	// The statistics and the index end where the tokens end.
	_, info = run(t, Options{Paths: opts.Paths, MaxTokens: 28, Tokenizer: "byte"})
	if split := info.Splits["train"]; split.Tokens != 28-5 && split.Tokens != 28 || split.Documents != (split.Tokens+1+5)/6 {
		t.Errorf("%+v", split)
	}
}

// A tokenizer that is trained on one text encodes another. Every trained kind is the same
// for any number of workers.
func TestTokenizerText(t *testing.T) {
	dir := tree(t, map[string]string{"a.txt": "koala", "b.jsonl": "{\"text\":\"a koala eats\"}\n{\"text\":\"" + strings.Repeat("koala leaf ", 200_000) + "\"}\n"})
	for _, kind := range tokenizer.Kinds {
		if kind.NewTrainer == nil {
			continue
		}
		opts := Options{
			Paths: []string{filepath.Join(dir, "a.txt")}, TokenizerText: []string{filepath.Join(dir, "b.jsonl")}, Tokenizer: kind.Name, Workers: 1,
		}
		if kind.Takes("train-by") {
			opts.TrainBy, opts.SpecialTokens = "documents", []string{"<|user|>"}
		}
		_, info := run(t, opts)
		opts.Workers = 3
		_, again := run(t, opts)
		if info.Tokenizer.SHA256 != again.Tokenizer.SHA256 {
			t.Errorf("%s: tokenizer.json depends on the number of workers", kind.Name)
		}
		if tokens := info.Splits["train"].Tokens; kind.Takes("min-count") && tokens > 2 && kind.Name != "char" { // the words of the other text
			t.Errorf("%s: \"koala\" has %d tokens", kind.Name, tokens)
		}
	}
	_, err := Run(context.Background(), Options{Paths: []string{dir}, TokenizerText: []string{dir}, Tokenizer: "byte", Out: filepath.Join(t.TempDir(), "out")})
	if err == nil || !strings.Contains(err.Error(), "not trained") {
		t.Errorf("error is %v", err)
	}
}

func TestCancelLeavesNothing(t *testing.T) {
	parent := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	opts := Options{Paths: []string{tree(t, map[string]string{"a.txt": numbered(200_000)})}, Out: filepath.Join(parent, "out")}
	opts.Progress = stages(func(name string) {
		if name == "encode train" {
			cancel()
		}
	})
	if _, err := Run(ctx, opts); err == nil {
		t.Fatal("a cancelled run succeeds")
	}
	if left, _ := os.ReadDir(parent); len(left) > 0 {
		t.Errorf("%s is left", left[0].Name())
	}
}

type stages func(name string)

func (f stages) Stage(name string, _ int64) { f(name) }
func (stages) Add(int64)                    {}

func TestForceReplaces(t *testing.T) {
	dir := tree(t, map[string]string{"a.txt": "a b\n", "b.txt": "c d\n"})
	out := filepath.Join(t.TempDir(), "out")
	run(t, Options{Paths: []string{filepath.Join(dir, "a.txt")}, Out: out})
	got, _ := run(t, Options{Paths: []string{filepath.Join(dir, "b.txt")}, Out: out, Force: true})
	if got["train"] != "c d\n" {
		t.Errorf("train is %q", got["train"])
	}
	if left, _ := os.ReadDir(filepath.Dir(out)); len(left) != 1 {
		t.Errorf("%d entries beside the dataset", len(left)-1)
	}
}

// The leftovers of a killed preparation are removed; the folder of a running one is
// not touched.
func TestLeftoversAndRivals(t *testing.T) {
	dir := tree(t, map[string]string{"a.txt": "a b\n"})
	parent := t.TempDir()
	out := filepath.Join(parent, "out")
	leftovers := []string{".out.preparing", ".other.preparing"}
	for _, name := range leftovers {
		if err := os.MkdirAll(filepath.Join(parent, name, "text"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	run(t, Options{Paths: []string{dir}, Out: out})
	for _, name := range leftovers {
		if _, err := os.Stat(filepath.Join(parent, name)); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
	second := filepath.Join(parent, "second")
	rival, err := newFolder(second, false)
	if err != nil {
		t.Fatal(err)
	}
	run(t, Options{Paths: []string{dir}, Out: filepath.Join(parent, "third")}) // does not remove the rival's folder
	if _, err := Run(context.Background(), Options{Paths: []string{dir}, Out: second}); err == nil || !strings.Contains(err.Error(), "another prepare") {
		t.Errorf("beside a rival: %v", err)
	}
	if err := rival.abandon(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(second); !os.IsNotExist(err) && err != fs.ErrNotExist {
		t.Errorf("second is there: %v", err)
	}
}
