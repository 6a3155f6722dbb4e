package endtoend

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"database/sql"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
)

// What a file of at most a MiB may cost the program that reads it. The dearest that is
// seen takes a quarter of the time; other work on the machine costs caches.
const (
	boundedMemory = 256 << 10 // KiB resident, with libtorch's 140 MiB
	boundedCPU    = 15 * time.Second
)

// Files made to cost as much as they can: each is read, or refused in a line, within
// the bounds. The log has what each cost.
func TestBounds(t *testing.T) {
	if *mutateFor == 0 {
		t.Skip("-mutate DURATION runs it, for half a minute")
	}
	var table strings.Builder
	fmt.Fprintf(&table, "%-30s %9s %9s %8s %5s  %s\n", "file", "bytes", "RSS KiB", "CPU ms", "code", "it says")
	for _, in := range worstInputs(t) {
		t.Run(in.name, func(t *testing.T) {
			if len(in.content) > 1<<20 {
				t.Fatalf("the file has %d bytes", len(in.content))
			}
			dir := t.TempDir()
			if in.folder != "" {
				if err := os.CopyFS(dir, os.DirFS(in.folder)); err != nil {
					t.Fatal(err)
				}
			}
			path := filepath.Join(dir, in.file)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, in.content, 0o644)); err != nil {
				t.Fatal(err)
			}
			before := names(dir)
			// A child's peak is at least its parent's until then (getrusage(2)).
			debug.FreeOSMemory()
			_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
			got, err := alone(filepath.Join(bin, "koala-lm"), in, dir)
			if err != nil {
				t.Fatal(err)
			}
			wrong := wrongs(got, dir, before)
			if got.memory > boundedMemory {
				wrong = append(wrong, fmt.Sprintf("%d KiB of memory", got.memory))
			}
			if got.cpu > boundedCPU {
				wrong = append(wrong, fmt.Sprintf("%v of CPU", got.cpu))
			}
			if in.code != anyCode && (got.code == 0) != (in.code == 0) {
				wrong = append(wrong, fmt.Sprintf("exit code %d", got.code))
			}
			if len(wrong) > 0 {
				t.Errorf("%s\nit said: %.600s", strings.Join(wrong, "; "), got.said)
			}
			said, _, _ := strings.Cut(strings.TrimPrefix(got.said, "koala-lm: "), "\n")
			fmt.Fprintf(&table, "%-30s %9d %9d %8d %5d  %.100s\n", in.name, len(in.content), got.memory, got.cpu.Milliseconds(), got.code, said)
		})
	}
	t.Log("\n" + table.String())
}

// worstInputs are the dearest files of each reader that we could think of. The code of
// an input is 0 if its file is to be read and 1 if it is to be refused.
func worstInputs(t *testing.T) []input {
	small := t.TempDir()
	if err := errors.Join(os.WriteFile(filepath.Join(small, "text.txt"), smallLanguage(300), 0o644), os.WriteFile(filepath.Join(small, "line.txt"), oneWord[:1<<18], 0o644)); err != nil {
		t.Fatal(err)
	}
	dataset := t.TempDir()
	prepare := input{command: []string{"prepare", filepath.Join(small, "text.txt"), "--out", "data", "--valid", "0.1", "--test", "0.1", "--quiet"}}
	if got, err := alone(filepath.Join(bin, "koala-lm"), prepare, dataset); err != nil || got.code != 0 {
		t.Fatal(got, err)
	}
	return slices.Concat(worstTexts(t), worstTokenizers(t, small), worstSettings(dataset), worstModels(dataset), worstStores(t))
}

const mib = 1 << 20

// oneWord is a MiB of one letter, and randomRunes are a MiB of any.
var (
	oneWord     = bytes.Repeat([]byte("a"), mib)
	randomRunes = func() []byte {
		random, runes := rand.New(rand.NewPCG(1, 1)), make([]byte, 0, mib)
		for len(runes) < mib-4 {
			if r := rune(random.IntN(0x110000)); r < 0xd800 || r > 0xdfff {
				runes = append(runes, string(r)...)
			}
		}
		return runes
	}()
)

func worstTexts(t *testing.T) (all []input) {
	text := func(name, file string, code int, content []byte, flags ...string) {
		all = append(all, input{name: name, file: file, content: content, code: code,
			command: append([]string{"prepare", file, "--out", "o", "--valid", "0", "--test", "0", "--workers", "1", "--quiet"}, flags...)})
	}
	text("a word of a MiB", "t.txt", 0, oneWord)
	text("a word of a MiB, BPE", "t.txt", 0, oneWord, "--tokenizer", "bpe", "--vocab-size", "500")
	text("random runes", "t.txt", 0, randomRunes)
	text("random runes, BPE", "t.txt", 0, randomRunes, "--tokenizer", "bpe", "--vocab-size", "500")
	text("random runes, Unigram", "t.txt", 1, randomRunes, "--tokenizer", "unigram", "--vocab-size", "30000")
	text("random runes, WordPiece", "t.txt", 1, randomRunes, "--tokenizer", "wordpiece", "--vocab-size", "30000")
	units := utf16.Encode([]rune(string(randomRunes[:mib/2])))
	wide := []byte{0xff, 0xfe}
	for _, unit := range units {
		wide = binary.LittleEndian.AppendUint16(wide, unit)
	}
	text("UTF-16", "t.txt", 0, wide[:min(len(wide), mib)&^1], "--encoding", "utf-16")

	zipped := func(n int, b []byte) []byte { // n times b
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		for range n {
			if _, err := w.Write(b); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return packed.Bytes()
	}
	text("gzip bomb", "t.txt.gz", 1, zipped(900, make([]byte, mib)))
	var window bytes.Buffer
	w, err := zstd.NewWriter(&window, zstd.WithWindowSize(zstd.MaxWindowSize), zstd.WithSingleSegment(false))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(randomRunes[:mib/4]); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	text("zstd, window of 512 MiB", "t.txt.zst", 1, window.Bytes())
	text("zstd, window of 2 GiB", "t.txt.zst", 1, []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0xa8, 1, 0, 0})
	text("overlapping zip", "t.zip", 1, overlappingZip(8000, zipped(20, oneWord)))
	var many bytes.Buffer
	z := zip.NewWriter(&many)
	for i := range 8000 {
		if _, err := z.Create(fmt.Sprintf("%d.txt", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	text("empty members", "t.zip", 1, many.Bytes())

	text("nested JSON", "t.json", 1, bytes.Repeat([]byte("["), mib), "--field", "text")
	text("JSON of objects in objects", "t.json", 1, bytes.Repeat([]byte(`{"a":`), mib/5), "--field", "text")
	text("JSON of escapes", "t.jsonl", 0, []byte(`{"text":"`+strings.Repeat(`\u0041`, (mib-20)/6)+`"}`), "--field", "text")
	text("JSON of many fields", "t.jsonl", 1, []byte("{"+strings.Repeat(`"a":1,`, (mib-20)/6)+`"b":2}`), "--field", "text")
	text("JSON of empty records", "t.json", 1, []byte("["+strings.Repeat("{},", mib/3-10)+"{}]"), "--field", "text", "--skip-bad")
	text("CSV, a quote without end", "t.csv", 1, []byte("text\n\""+strings.Repeat("a,\n", mib/3-10)), "--field", "text")
	text("CSV of many columns", "t.csv", 0, []byte("text"+strings.Repeat(",", mib/2-10)+"\na"+strings.Repeat(",", mib/2-10)), "--field", "text")
	type row struct {
		Text string `parquet:"text,dict,zstd"`
	}
	for name, rows := range map[string][]row{"Parquet of long rows": slices.Repeat([]row{{strings.Repeat("koala ", 10_000)}}, 2000), "Parquet of many rows": slices.Repeat([]row{{"a"}}, 3_000_000)} {
		var b bytes.Buffer
		w := parquet.NewGenericWriter[row](&b)
		if _, err := w.Write(rows); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		text(name, "t.parquet", 1, b.Bytes())
	}
	return all
}

// worstTokenizers encode the texts in a folder: a small one, and a long word.
func worstTokenizers(t *testing.T, folder string) (all []input) {
	tokenizer := func(name, file, text string, code int, content []byte) {
		all = append(all, input{name: name, folder: folder, file: file, content: content, code: code,
			command: []string{"prepare", text, "--tokenizer", file, "--out", "o", "--valid", "0", "--test", "0", "--workers", "1", "--quiet"}})
	}
	// A tokenizer.json whose parts are given as JSON; "" is none.
	whole := func(normalizer, pretokenizer, model, added string) []byte {
		for _, part := range []*string{&normalizer, &pretokenizer} {
			if *part == "" {
				*part = "null"
			}
		}
		return fmt.Appendf(nil, `{"version":"1.0","added_tokens":[%s],"normalizer":%s,"pre_tokenizer":%s,"post_processor":null,"decoder":null,"model":%s}`, added, normalizer, pretokenizer, model)
	}
	const words = `{"type":"WordLevel","vocab":{"a":0,"[UNK]":1},"unk_token":"[UNK]"}`
	sequence := func(key, in string, depth int) string {
		return strings.Repeat(`{"type":"Sequence","`+key+`":[`, depth) + in + strings.Repeat("]}", depth)
	}
	double := `{"type":"Replace","pattern":{"String":"a"},"content":"aa"}`
	split := func(pattern string) string {
		quoted, err := json.Marshal(pattern)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(`{"type":"Split","pattern":{"Regex":%s},"behavior":"Isolated","invert":false}`, quoted)
	}
	tokenizer("Sequence in Sequence", "t.json", "text.txt", 1, whole(sequence("normalizers", `{"type":"NFC"}`, 20_000), "", words, ""))
	tokenizer("Replace that doubles, 30 times", "t.json", "text.txt", 1, whole(`{"type":"Sequence","normalizers":[`+strings.TrimSuffix(strings.Repeat(double+",", 30), ",")+`]}`, "", words, ""))
	tokenizer("10,000 normalizers", "t.json", "line.txt", 0, whole(`{"type":"Sequence","normalizers":[`+strings.TrimSuffix(strings.Repeat(`{"type":"NFKD"},`, 10_000), ",")+`]}`, "", words, ""))
	for name, pattern := range map[string]string{
		"(a|aa)+$":      `(a|aa)+$`,
		"(a+)+b":        `(a+)+b`,
		"(a*)*b":        `(a*)*b`,
		"(?=(a+))a*b":   `(?=a+)a*b`,
		"a{1000}{1000}": `(a{1000}){1000}`,
		"(?<=a{500})b":  `(?<=a{500})b`,
		"(?!a*b)a":      `(?!a*b)a`,
		"nested groups": strings.Repeat("(", 50_000) + "a" + strings.Repeat(")", 50_000),
		"alternatives":  strings.TrimSuffix(strings.Repeat("a+x|", 50_000), "|"),
	} {
		tokenizer("expression "+name, "t.json", "line.txt", anyCode, whole("", split(pattern), words, ""))
	}
	// Merges that double: the token of 2^17 letters is in the vocabulary.
	var vocab, merges []string
	for i := range 18 {
		a := strings.Repeat("a", 1<<i)
		vocab = append(vocab, fmt.Sprintf("%q:%d", a, i))
		if i < 17 {
			merges = append(merges, fmt.Sprintf("[%q,%q]", a, a))
		}
	}
	tokenizer("BPE of doubling merges", "t.json", "line.txt", 0, whole("", "", fmt.Sprintf(`{"type":"BPE","vocab":{%s},"merges":[%s]}`, strings.Join(vocab, ","), strings.Join(merges, ",")), ""))
	// All prefixes: the lattice of a line has 1,000 edges at each letter.
	var pieces []string
	for i := range 1000 {
		pieces = append(pieces, fmt.Sprintf("[%q,%g]", strings.Repeat("a", i+1), -10-float64(i%7)))
	}
	tokenizer("Unigram of all prefixes", "t.json", "line.txt", 0, whole("", "", fmt.Sprintf(`{"type":"Unigram","unk_id":null,"vocab":[%s]}`, strings.Join(pieces, ",")), ""))
	vocab = vocab[:0]
	for i := range 1000 {
		vocab = append(vocab, fmt.Sprintf("%q:%d,%q:%d", strings.Repeat("a", i+1), 2*i, "##"+strings.Repeat("a", i+1)+"b", 2*i+1))
	}
	tokenizer("WordPiece that never ends", "t.json", "line.txt", 0, whole("", "", fmt.Sprintf(`{"type":"WordPiece","unk_token":"a","continuing_subword_prefix":"##","max_input_chars_per_word":1000000000,"vocab":{%s}}`, strings.Join(vocab, ",")), ""))
	var added []string
	for i := range 6500 {
		added = append(added, fmt.Sprintf(`{"id":%d,"content":%q,"single_word":true,"lstrip":true,"rstrip":true,"normalized":true,"special":false}`, i+2, strings.Repeat("a", i%40+2)+fmt.Sprint(i)))
	}
	tokenizer("6,500 added tokens", "t.json", "line.txt", 0, whole(`{"type":"Lowercase"}`, "", words, strings.Join(added, ",")))
	charsmap := bytes.Clone(randomRunes[:700_000])
	binary.LittleEndian.PutUint32(charsmap, uint32(len(charsmap)-8)&^3)
	tokenizer("Precompiled of random bytes", "t.json", "text.txt", anyCode, whole(`{"type":"Precompiled","precompiled_charsmap":"`+base64.StdEncoding.EncodeToString(charsmap)+`"}`, "", words, ""))
	tokenizer("SentencePiece of 2^63 bytes", "t.model", "text.txt", 1, append([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}, randomRunes[:1000]...))
	tokenizer("SentencePiece of empty pieces", "t.model", "text.txt", 1, bytes.Repeat([]byte{0x0a, 0}, mib/2))
	tokenizer("tiktoken of random runes", "t.tiktoken", "text.txt", 1, randomRunes)
	return all
}

// worstSettings are YAML files beside a dataset in a folder.
func worstSettings(folder string) (all []input) {
	config := func(name string, code int, content string, command ...string) {
		all = append(all, input{name: name, folder: folder, file: "s.yaml", content: []byte(content), code: code, command: command})
	}
	var anchors strings.Builder
	anchors.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := range 12 {
		fmt.Fprintf(&anchors, "a%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i), 10), ", "))
	}
	deep := strings.Repeat("{a: ", 20_000) + "1" + strings.Repeat("}", 20_000)
	for name, content := range map[string]string{"anchors": anchors.String(), "depth": deep, "many keys": strings.Repeat("model: {}\n", mib/10-1), "one long word": string(oneWord)} {
		config("settings, "+name, 1, content, "train", "--data", "data", "--config", "s.yaml", "--dry-run")
		config("sweep, "+name, 1, content, "sweep", "s.yaml", "--dry-run")
	}
	var grid strings.Builder
	for i := range 12 {
		fmt.Fprintf(&grid, ", %s: [%s]", []string{"optimizer.lr", "optimizer.sigma", "optimizer.q", "optimizer.decay", "train.clip", "train.batch", "train.bptt", "model.layers", "model.embed", "model.hidden", "seed", "schedule.warmup"}[i],
			strings.TrimSuffix(strings.Repeat("1, ", 2000), ", "))
	}
	config("sweep of 2,000^12 trials", 1, "data: data\ngrid: {"+grid.String()[2:]+"}\n", "sweep", "s.yaml", "--dry-run")
	config("model of 10^13 weights", 1, "model: {kind: transformer, layers: 1000, embed: 65536, heads: 1, context: 64}\n", "train", "--data", "data", "--config", "s.yaml", "--steps", "1", "--quiet")
	all[len(all)-1].engine = true
	return all
}

// worstModels are weights and a model's folder, beside a dataset in a folder.
func worstModels(folder string) (all []input) {
	weights := func(name string, content []byte) {
		all = append(all, input{name: name, folder: folder, file: "c.safetensors", content: content, code: 1, engine: true,
			command: []string{"eval", "c.safetensors", "--data", "data", "--quiet"}})
	}
	weights("safetensors, header of 2^62", append(binary.LittleEndian.AppendUint64(nil, 1<<62), '{'))
	var tensors strings.Builder
	for i := range 12_000 {
		fmt.Fprintf(&tensors, `,"t%d":{"dtype":"F32","shape":[0,9223372036854775807],"data_offsets":[0,0]}`, i)
	}
	header := "{" + tensors.String()[1:] + "}"
	weights("safetensors, 12,000 tensors", append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...))
	nested := `{"__metadata__":` + strings.Repeat("[", mib/2) + "}"
	weights("safetensors, nested header", append(binary.LittleEndian.AppendUint64(nil, uint64(len(nested))), nested...))
	for name, content := range map[string]string{
		"n_layer":    `{"model_type":"gpt2","n_layer":2147483648,"n_head":1,"n_embd":8,"n_positions":8,"vocab_size":16}`,
		"vocab_size": `{"model_type":"gpt2","n_layer":1,"n_head":1,"n_embd":65536,"n_positions":8,"vocab_size":2147483647}`,
		"nested":     strings.Repeat("[", mib),
		"layers of llama": `{"model_type":"llama","num_hidden_layers":100000,"num_attention_heads":1,"hidden_size":8,"intermediate_size":8,"max_position_embeddings":8,"vocab_size":16,` +
			`"rms_norm_eps":1e-6}`,
	} {
		all = append(all, input{name: "config.json, " + name, file: "hf/config.json", content: []byte(content), code: 1, engine: true, command: []string{"generate", "hf", "--tokens", "2", "--quiet"}})
	}
	return all
}

// anyCode is the code of an input that may be read or refused.
const anyCode = -1

// overlappingZip has n entries that are all the same packed bytes.
func overlappingZip(n int, gzipped []byte) []byte {
	const name, header, tail = "a.txt", 10, 8 // of gzip
	packed := gzipped[header : len(gzipped)-tail]
	sums := gzipped[len(gzipped)-tail:] // the CRC-32 and the size
	entry := func(b []byte, signature uint32, central bool) []byte {
		b = binary.LittleEndian.AppendUint32(b, signature)
		if central {
			b = binary.LittleEndian.AppendUint16(b, 20)
		}
		b = append(b, 20, 0, 0, 0, 8, 0, 0, 0, 0, 0) // version, flags, deflate, time, date
		b = append(b, sums[:4]...)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(packed)))
		b = append(b, sums[4:]...)
		b = append(b, byte(len(name)), 0, 0, 0)
		if central {
			b = append(b, make([]byte, 14)...) // comment, disk, attributes, offset 0
		}
		return append(b, name...)
	}
	file := append(entry(nil, 0x04034b50, false), packed...)
	start := len(file)
	for range n {
		file = entry(file, 0x02014b50, true)
	}
	end := binary.LittleEndian.AppendUint32(nil, 0x06054b50)
	end = append(end, 0, 0, 0, 0)
	end = binary.LittleEndian.AppendUint16(end, uint16(n))
	end = binary.LittleEndian.AppendUint16(end, uint16(n))
	end = binary.LittleEndian.AppendUint32(end, uint32(len(file)-start))
	end = binary.LittleEndian.AppendUint32(end, uint32(start))
	return append(append(file, end...), 0, 0)
}

// worstStores are stores with many runs, long texts and views without end.
func worstStores(t *testing.T) []input {
	nursery := t.TempDir()
	made := filepath.Join(nursery, "made.db")
	trained := input{command: []string{"train", "--data", "data", "--config", "tiny.yaml", "--threads", "1", "--quiet", "--store", made, "--steps", "40"}, engine: true}
	if err := errors.Join(os.WriteFile(filepath.Join(nursery, "tiny.yaml"), []byte(tiny), 0o644), os.WriteFile(filepath.Join(nursery, "text.txt"), smallLanguage(300), 0o644)); err != nil {
		t.Fatal(err)
	}
	for _, in := range []input{{command: []string{"prepare", "text.txt", "--out", "data", "--valid", "0.1", "--test", "0.1", "--quiet"}}, trained} {
		if got, err := alone(filepath.Join(bin, "koala-lm"), in, nursery); err != nil || got.code != 0 {
			t.Fatal(got, err)
		}
	}
	content := storeContent(t, made)
	changed := func(script string) []byte {
		path := filepath.Join(t.TempDir(), "s.db")
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		db, err := sql.Open("sqlite3", "file:"+path+"?_journal_mode=DELETE")
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := db.Exec(script); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	endless := changed(`ALTER TABLE runs RENAME TO real; CREATE VIEW runs AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT real.* FROM real, c`)
	points := changed(`WITH RECURSIVE c(x) AS (SELECT 100 UNION ALL SELECT x + 1 FROM c LIMIT 30000)
		INSERT OR IGNORE INTO run_points SELECT (SELECT max(number) FROM runs), (SELECT min(metric) FROM run_points), x, x, x, x, 1e308 * (x % 2) FROM c`)
	name := changed(`UPDATE runs SET name = replace(hex(zeroblob(100000)), '0', char(27) || 'x')`)
	var all []input
	for _, args := range []string{"list", "show latest", "best --by val_ppl", "compare latest", "curve latest --metric train_loss", "html --out p.html", "export --to tensorboard --out e", "gc --dry-run"} {
		for what, c := range map[string][]byte{"endless view": endless, "many points": points, "a long name": name} {
			code := anyCode
			if what == "endless view" {
				code = 1
			}
			all = append(all, input{name: "store, " + what + ": " + strings.Fields(args)[0], file: "s.db", content: c, code: code, command: append(append([]string{"report"}, strings.Fields(args)...), "--store", "s.db")})
		}
	}
	return all
}
