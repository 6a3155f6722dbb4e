package corpus

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"
	"github.com/parquet-go/parquet-go/format"
	"golang.org/x/text/encoding/unicode"
)

func template(t *testing.T, source string) *Template {
	t.Helper()
	read, err := ParseTemplate(source)
	if err != nil {
		t.Fatal(err)
	}
	return read
}

type message struct {
	Role    string `parquet:"role"`
	Content string `parquet:"content"`
}

type chat struct {
	Title    string    `parquet:"title"`
	Doc      message   `parquet:"doc"`
	Tags     []string  `parquet:"tags,list"`
	Messages []message `parquet:"messages,list"`
}

func chats(t *testing.T, options ...parquet.WriterOption) []byte {
	t.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[chat](&b, options...)
	for _, row := range []chat{
		{"one", message{"user", "first"}, []string{"a", "b"}, []message{{"user", "hello"}, {"model", "hi"}}},
		{"two", message{"user", "second"}, nil, []message{{"user", "bye"}}},
	} {
		if _, err := w.Write([]chat{row}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Records of every format give the text of the named fields.
func TestRecords(t *testing.T) {
	utf16, err := unicode.UTF16(unicode.LittleEndian, unicode.UseBOM).NewEncoder().Bytes([]byte("é\nb"))
	if err != nil {
		t.Fatal(err)
	}
	nested := []byte(`{"meta":{"text":"a","tags":["x","y"]},"dotted.name":"d","messages":[{"content":"hello"},{"content":null},{"content":"hi"}]}`)
	for name, c := range map[string]struct {
		file    string
		content []byte
		opts    Options
		want    []string
	}{
		"json lines":          {"a.json", []byte("{\"text\":\"a\\nb\"}\n{\"text\":\"c\"}\n"), Options{}, []string{"a\nb", "c"}},
		"json array":          {"a.json", []byte("\ufeff [{\"story\":\"a\"},\n {\"story\":\"b\"}]\n"), Options{Field: "story"}, []string{"a", "b"}},
		"json strings":        {"a.json", []byte(`["a","b"]`), Options{}, []string{"a", "b"}},
		"json of one":         {"a.json", []byte("{\n \"text\": \"a\"\n}"), Options{}, []string{"a"}},
		"json nothing":        {"a.json", []byte("\n"), Options{}, nil},
		"json packed":         {"a.json.gz", pack(t, ".gz", []byte(`{"text":"a"}`)), Options{}, []string{"a"}},
		"json NaN":            {"a.json", []byte(`[{"text":"NaN\"","x":NaN,"y":-Infinity},{"x":Infinity,"text":"b"}]`), Options{}, []string{`NaN"`, "b"}},
		"jsonl NaN":           {"a.jsonl", []byte("{\"text\":\"a\",\"x\":NaN}\n{\"x\":[-Infinity,1],\"text\":\"-Infinity\"}"), Options{}, []string{"a", "-Infinity"}},
		"path":                {"a.jsonl", nested, Options{Field: "meta.text"}, []string{"a"}},
		"path with a dot":     {"a.jsonl", nested, Options{Field: "dotted.name"}, []string{"d"}},
		"list":                {"a.jsonl", nested, Options{Field: "meta.tags"}, []string{"x\ny"}},
		"list of objects":     {"a.jsonl", nested, Options{Field: "messages.content"}, []string{"hello\nhi"}},
		"template":            {"a.jsonl", nested, Options{Template: template(t, `{meta.text}\n\n{{{dotted.name}}}`)}, []string{"a\n\n{d}"}},
		"csv":                 {"a.csv", []byte("\ufeffid,text\n1,\"a, \"\"b\"\"\nc\"\n2,d\n"), Options{}, []string{"a, \"b\"\nc", "d"}},
		"csv template":        {"a.csv", []byte("id,text\n1,a\n"), Options{Template: template(t, "{id}: {text}")}, []string{"1: a"}},
		"tsv":                 {"a.tsv", []byte("id\ttext\n1\ta b\n"), Options{}, []string{"a b"}},
		"format":              {"a.data", []byte(`{"text":"a"}`), Options{Format: "jsonl"}, []string{"a"}},
		"source code":         {"a.go", []byte("package a\n"), Options{}, []string{"package a\n"}},
		"raw":                 {"wiki.train.raw", []byte(" = A = \n"), Options{}, []string{" = A = \n"}},
		"byte-order mark":     {"a.txt", []byte("\ufeffa\n"), Options{}, []string{"a\n"}},
		"only a mark":         {"a.txt", []byte("\ufeff"), Options{}, []string{""}},
		"two bytes":           {"a.txt", []byte("a\n"), Options{}, []string{"a\n"}},
		"utf-16":              {"a.txt", utf16, Options{Encoding: "utf-16"}, []string{"é\nb"}},
		"latin1":              {"a.txt", []byte("caf\xe9"), Options{Encoding: "latin1"}, []string{"café"}},
		"windows-1252":        {"a.csv", []byte("text\n\x80\n"), Options{Encoding: "windows-1252"}, []string{"€"}},
		"gzip and zeros":      {"a.txt.gz", append(append(pack(t, ".gz", []byte("a")), pack(t, ".gz", []byte("b"))...), make([]byte, 999)...), Options{}, []string{"ab"}},
		"parquet path":        {"a.parquet", chats(t), Options{Field: "doc.content"}, []string{"first", "second"}},
		"parquet list":        {"a.parquet", chats(t), Options{Field: "tags"}, []string{"a\nb"}},
		"parquet messages":    {"a.parquet", chats(t), Options{Field: "messages.content"}, []string{"hello\nhi", "bye"}},
		"parquet template":    {"a.parquet", chats(t), Options{Template: template(t, "{title}: {messages.role}")}, []string{"one: user\nmodel", "two: user"}},
		"parquet lz4 v1":      {"a.parquet", chats(t, parquet.Compression(&parquet.Lz4Raw), parquet.DataPageVersion(1)), Options{Field: "title"}, []string{"one", "two"}},
		"parquet lz4 v2":      {"a.parquet", chats(t, parquet.Compression(&parquet.Lz4Raw), parquet.DataPageVersion(2)), Options{Field: "messages.content"}, []string{"hello\nhi", "bye"}},
		"skipped json record": {"a.jsonl", []byte("{\"text\":\"a\"}\n{\"text\":\n{\"text\":\"b\"}"), Options{Skipped: func(string) {}}, []string{"a", "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := readAll([]string{put(t, t.TempDir(), c.file, c.content)}, c.opts)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got.texts); diff != "" {
				t.Errorf("documents (-want +got):\n%s", diff)
			}
		})
	}
}

// The error for an unreadable record is one line that names the file and the
// record.
func TestRecordsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		file    string
		content []byte
		opts    Options
		want    string
	}{
		"no field":        {"a.json", []byte(`[{"text":"a"},{"txt":"b"}]`), Options{}, `a.json: record 2: there is no field "text"`},
		"object":          {"a.jsonl", []byte(`{"text":{"a":"b"}}`), Options{}, "text.text"},
		"number":          {"a.jsonl", []byte(`{"text":7}`), Options{}, "is not text"},
		"cut":             {"a.json", []byte(`[{"text":"a"}`), Options{}, "record 2: the file is cut short"},
		"no json":         {"a.json", []byte("hello"), Options{}, "a.json: record 1"},
		"csv in utf-16":   {"a.csv", []byte("\xff\xfet\x00e\x00"), Options{}, "use --encoding utf-16"},
		"csv field":       {"a.csv", []byte("id,body\n1,a\n"), Options{}, `has no field "text", only id, body`},
		"csv semicolons":  {"a.csv", []byte("id;text\n1;a\n"), Options{}, `a.csv: the first line "id;text" has no comma`},
		"csv quote":       {"a.csv", []byte("id,text\n1,a\n2,\"b\n3,c\n"), Options{}, "a.csv:3: a quote is opened here and never closed"},
		"zstd window":     {"a.txt.zst", []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0xa8, 1, 0, 0}, Options{}, "a.txt.zst needs more than 128 MiB of memory"},
		"csv short":       {"a.csv", []byte("id,text\n1\n"), Options{}, "a.csv:2: there are 1 fields"},
		"parquet list":    {"a.parquet", chats(t), Options{Field: "messages"}, "messages.role or messages.content"},
		"parquet missing": {"a.parquet", chats(t), Options{Field: "doc.body"}, `no column "body", only role, content`},
		"gzip garbage":    {"a.txt.gz", append(pack(t, ".gz", []byte("a")), "xx"...), Options{}, "something that is not gzip follows its end"},
		"encoding":        {"a.txt", []byte("a"), Options{Encoding: "ebcdic-9"}, "ebcdic-9"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := readAll([]string{put(t, t.TempDir(), c.file, c.content)}, c.opts)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error is %v, want one line with %q", err, c.want)
			}
		})
	}
	for _, source := range []string{"", "text", "{text", "{}", "text}"} {
		t.Run("template "+source, func(t *testing.T) {
			if _, err := ParseTemplate(source); err == nil {
				t.Error("no error")
			}
		})
	}
	if _, err := Find([]string{"/dev/zero"}, Options{}); err == nil || !strings.Contains(err.Error(), "device") {
		t.Errorf("a device: %v", err)
	}
}

// If any byte of a Parquet file is damaged, reading returns an error or a text, and
// what it allocates stays in proportion to the file.
func TestDamagedParquet(t *testing.T) {
	for name, options := range map[string][]parquet.WriterOption{
		"plain":  {parquet.DataPageVersion(1)},
		"lz4 v1": {parquet.Compression(&parquet.Lz4Raw), parquet.DataPageVersion(1)},
		"lz4 v2": {parquet.Compression(&parquet.Lz4Raw), parquet.DataPageVersion(2)},
		"zstd":   {parquet.Compression(&parquet.Zstd), parquet.DataPageVersion(2)},
	} {
		content := chats(t, options...)
		path := put(t, t.TempDir(), "a.parquet", nil)
		for i := range content {
			damaged := bytes.Clone(content)
			damaged[i] ^= 0xff
			if err := os.WriteFile(path, damaged, 0o644); err != nil {
				t.Fatal(err)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, _ = readAll([]string{path}, Options{Field: "messages.content"})
			runtime.ReadMemStats(&after)
			if took := after.TotalAlloc - before.TotalAlloc; took > 256<<20 {
				t.Errorf("%s, byte %d of %d: it allocates %d bytes", name, i, len(content), took)
			}
		}
	}
}

// longer packs more than the page holds, whose header then says too little.
type longer struct{ compress.Codec }

func (l longer) Encode(dst, src []byte) ([]byte, error) {
	return l.Codec.Encode(dst, append(bytes.Clone(src), make([]byte, 1<<20)...))
}

// A page of Parquet that unpacks to more than it says is an error before it is unpacked.
func TestLongerParquetPages(t *testing.T) {
	for name, codec := range map[string]compress.Codec{"gzip": &parquet.Gzip, "zstd": &parquet.Zstd, "brotli": &parquet.Brotli, "snappy": &parquet.Snappy, "lz4": &parquet.Lz4Raw} {
		for version := 1; version <= 2; version++ {
			t.Run(fmt.Sprint(name, version), func(t *testing.T) {
				for codec, want := range map[compress.Codec]string{codec: "", longer{codec}: "a page cannot be unpacked"} {
					path := put(t, t.TempDir(), "a.parquet", chats(t, parquet.Compression(codec), parquet.DataPageVersion(version)))
					_, err := readAll([]string{path}, Options{Field: "title"})
					if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
						t.Errorf("error is %v, want %q", err, want)
					}
				}
			})
		}
	}
}

// A page's header that promises more than memory should hold is an error: a value that
// is repeated takes no space.
func TestParquetPageSizes(t *testing.T) {
	header := func(plain, packed int32) format.PageHeader {
		return format.PageHeader{UncompressedPageSize: plain, CompressedPageSize: packed}
	}
	data, second, words := header(100, 10), header(100, 10), header(100, 10)
	data.DataPageHeader.V.NumValues = 1 << 30
	second.DataPageHeaderV2.V.NumValues = 1 << 30
	words.DictionaryPageHeader.V.NumValues = 1 << 20
	for name, h := range map[string]format.PageHeader{
		"plain": header(1<<30, 10), "packed": header(100, 1000), "negative": header(-1, 10), "values": data, "values of version 2": second, "dictionary": words,
	} {
		if _, err := sizesOf(&h, 100); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	usual := header(1000, 100)
	usual.DataPageHeader.V.NumValues = 1 << 20
	if _, err := sizesOf(&usual, 100); err != nil {
		t.Error(err)
	}
}

// A text that a dictionary repeats is refused like a bomb of any other packing.
func TestParquetBomb(t *testing.T) {
	type row struct {
		Text string `parquet:"text,dict"`
	}
	for _, rows := range [][]row{
		slices.Repeat([]row{{strings.Repeat("koala ", 10_000)}}, 2000), // 120 MB
		slices.Repeat([]row{{"a"}}, 2_500_000),
	} {
		var b bytes.Buffer
		w := parquet.NewGenericWriter[row](&b, parquet.Compression(&parquet.Zstd))
		if _, err := w.Write(rows); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		_, err := readAll([]string{put(t, t.TempDir(), "a.parquet", b.Bytes())}, Options{})
		if err == nil || !strings.Contains(err.Error(), "250 times") {
			t.Errorf("%d rows in %d bytes: error is %v", len(rows), b.Len(), err)
		}
	}
}

// A file with holes in an archive is an error.
func TestSparseTar(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	header := &tar.Header{Name: "a.txt", Mode: 0o644, Size: 1, Typeflag: tar.TypeReg, Format: tar.FormatPAX, PAXRecords: map[string]string{"comment": "sparse"}}
	if err := w.WriteHeader(header); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if sparse(header) {
		t.Error("a plain file counts as sparse")
	}
	for _, h := range []*tar.Header{{Typeflag: tar.TypeGNUSparse}, {Typeflag: tar.TypeReg, PAXRecords: map[string]string{"GNU.sparse.size": "9"}}} {
		if !sparse(h) {
			t.Errorf("%+v does not count as sparse", h)
		}
	}
}

// A member of an archive takes no buffer of its own: many small ones are read as fast
// as the lines of a file.
func TestSmallMembers(t *testing.T) {
	const members = 2000
	var packed [2]bytes.Buffer
	z, r := zip.NewWriter(&packed[0]), tar.NewWriter(&packed[1])
	for i := range members {
		name := fmt.Sprintf("%d.txt", i)
		m, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: 8}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.MultiWriter(m, r).Write([]byte("a b c d\n")); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(z.Close(), r.Close()); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"a.zip", "a.tar"} {
		path := put(t, t.TempDir(), name, packed[i].Bytes())
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got, err := readAll([]string{path}, Options{})
		runtime.ReadMemStats(&after)
		if err != nil || len(got.texts) != members {
			t.Fatalf("%s: %d documents, %v", name, len(got.texts), err)
		}
		if each := (after.TotalAlloc - before.TotalAlloc) / members; each > aheadSize/2 {
			t.Errorf("%s: %d bytes are allocated for a member of 8", name, each)
		}
	}
}

// A folder keeps its splits in every layout.
func TestSplitLayouts(t *testing.T) {
	for name, c := range map[string]struct {
		files []string
		want  string // split=files
		err   string
	}{
		"names":            {[]string{"train.txt", "test.txt", "notes.md"}, "test=test.txt train=train.txt", ""},
		"hugging face":     {[]string{"README.md", "data/train-00000-of-00001.jsonl", "data/test-00000-of-00001.jsonl"}, "test=data/test-00000-of-00001.jsonl train=data/train-00000-of-00001.jsonl", ""},
		"converted":        {[]string{"default/train/0000.jsonl", "default/validation/0000.jsonl"}, "train=default/train/0000.jsonl valid=default/validation/0000.jsonl", ""},
		"folders":          {[]string{"train/a.txt", "train/b.txt", "dev/c.txt"}, "train=train/a.txt,train/b.txt valid=dev/c.txt", ""},
		"raw":              {[]string{"wiki.train.raw", "wiki.valid.raw"}, "train=wiki.train.raw valid=wiki.valid.raw", ""},
		"none":             {[]string{"a.txt", "b/c.txt"}, "", ""},
		"train alone":      {[]string{"a.txt", "train/c.txt"}, "", ""},
		"splits and other": {[]string{"a.txt", "train/c.txt", "test/d.txt"}, "", "prepare the files by name"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, f := range c.files {
				put(t, dir, f, []byte("{\"text\":\"a\"}\n"))
			}
			plan, err := Find([]string{dir}, Options{})
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error is %v, want %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, split := range []string{"test", "train", "valid"} {
				var names []string
				for _, s := range plan.Splits[split] {
					rel, _ := filepath.Rel(dir, s.(*file).path)
					names = append(names, rel)
				}
				if names != nil {
					got = append(got, split+"="+strings.Join(names, ","))
				}
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("splits are %q, want %q", strings.Join(got, " "), c.want)
			}
		})
	}
}

// Symbolic links are followed once; broken links are skipped.
func TestLinks(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "real/a.txt", []byte("a"))
	for from, to := range map[string]string{"real/loop": "../real", "real/none.txt": "nothing.txt", "link": "real", "real/deep": "../other"} {
		if err := os.Symlink(to, filepath.Join(dir, from)); err != nil {
			t.Fatal(err)
		}
	}
	put(t, dir, "other/b.txt", []byte("b"))
	got, err := readAll([]string{filepath.Join(dir, "link")}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "b"}, got.texts); diff != "" {
		t.Errorf("documents (-want +got):\n%s", diff)
	}
}

// No content of a .json or .csv file causes a panic.
func FuzzRecords(f *testing.F) {
	f.Add([]byte(`[{"text":"a","x":NaN},{"text":["b"]}]`))
	f.Add([]byte("id,text\n1,\"a\n\"\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		for _, name := range []string{"a.json", "a.jsonl", "a.csv"} {
			r := reading{ctx: context.Background(), sink: new(recorder)}
			held, _ := formatOf(name)
			_ = r.unpacked(bytes.NewReader(content), held, name)
		}
	})
}
