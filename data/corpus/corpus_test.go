package corpus

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
	"github.com/ulikunitz/xz"
	"golang.org/x/sys/unix"
)

// recorder is a Sink that keeps documents.
type recorder struct {
	texts, places []string
	open          strings.Builder
}

func (r *recorder) Begin(place string) error {
	r.places = append(r.places, place)
	r.open.Reset()
	return nil
}
func (r *recorder) Write(p []byte) (int, error) { return r.open.Write(p) }
func (r *recorder) End() error {
	r.texts = append(r.texts, r.open.String())
	return nil
}

func put(t *testing.T, dir, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// readAll finds and reads sources, and returns the documents.
func readAll(paths []string, opts Options) (*recorder, error) {
	plan, err := Find(paths, opts)
	if err != nil {
		return nil, err
	}
	r := new(recorder)
	for _, source := range plan.Loose {
		if _, err := source.Read(context.Background(), r); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func pack(t *testing.T, ending string, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch ending {
	case ".gz":
		w = gzip.NewWriter(&b)
	case ".zst":
		w, err = zstd.NewWriter(&b)
	case ".xz":
		w, err = xz.NewWriter(&b)
	case ".zip":
		return zipped(t, map[string]string{"a.txt": string(content)})
	default:
		t.Fatalf("no packer for %s", ending)
	}
	if err == nil {
		_, err = w.Write(content)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zipped(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for name, content := range files {
		f, err := w.Create(name)
		if err == nil {
			_, err = io.WriteString(f, content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func tarred(t *testing.T, names []string, contents []string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i, name := range names {
		err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(contents[i])), Typeflag: tar.TypeReg})
		if err == nil {
			_, err = io.WriteString(w, contents[i])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func parquetFile(t *testing.T, texts ...string) []byte {
	t.Helper()
	type row struct {
		ID   int64  `parquet:"id"`
		Text string `parquet:"text,zstd"`
	}
	var b bytes.Buffer
	w := parquet.NewGenericWriter[row](&b)
	for i, text := range texts {
		if _, err := w.Write([]row{{int64(i), text}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const packedText = "packed text\nof two lines\n"

func TestFormats(t *testing.T) {
	bzip2ed, err := base64.StdEncoding.DecodeString("QlpoOTFBWSZTWQZ3wN0AAAlRgAAQQAAvLczAIAAiIA2keSChppgASOwnjqDolTLR7LC/xdyRThQkAZ3wN0A=")
	if err != nil {
		t.Fatal(err)
	}
	lines := []byte("{\"text\": \"one\\nline \\u00e9\", \"id\": 1}\n\n{\"id\": {\"text\": 2}, \"text\": \"two\"}\r\n{\"text\": null}\n{\"text\":\"three\"}")
	records := []string{"one\nline é", "two", "", "three"}
	two := tarred(t, []string{"d/a.txt", "d/b.jsonl.gz", "d/.hidden.txt", "picture.png"},
		[]string{packedText, string(pack(t, ".gz", lines)), "x", "x"})
	inTar := append([]string{packedText}, records...)
	for name, c := range map[string]struct {
		content []byte
		want    []string
	}{
		"a.txt":         {[]byte(packedText), []string{packedText}},
		"a.tokens":      {[]byte(packedText), []string{packedText}},
		"A.MD":          {[]byte(packedText), []string{packedText}},
		"noending":      {[]byte(packedText), []string{packedText}},
		"a.txt.gz":      {pack(t, ".gz", []byte(packedText)), []string{packedText}},
		"two.txt.gz":    {append(pack(t, ".gz", []byte("a")), pack(t, ".gz", []byte("b"))...), []string{"ab"}},
		"a.txt.zst":     {pack(t, ".zst", []byte(packedText)), []string{packedText}},
		"empty.txt.zst": {nil, []string{""}},
		"a.txt.xz":      {pack(t, ".xz", []byte(packedText)), []string{packedText}},
		"a.txt.bz2":     {bzip2ed, []string{packedText}},
		"a.jsonl":       {lines, records},
		"marked.jsonl":  {append([]byte("\ufeff"), lines...), records},
		"a.jsonl.zst":   {pack(t, ".zst", lines), records},
		"a.parquet":     {parquetFile(t, "one", "", "drei é"), []string{"one", "", "drei é"}},
		"a.parquet.gz":  {pack(t, ".gz", parquetFile(t, "one")), []string{"one"}},
		"a.zip":         {pack(t, ".zip", []byte(packedText)), []string{packedText}},
		"nested.zip":    {zipped(t, map[string]string{"x/y.txt.xz": string(pack(t, ".xz", []byte("x")))}), []string{"x"}},
		"parquet.zip":   {zipped(t, map[string]string{"y.parquet": string(parquetFile(t, "one", "two"))}), []string{"one", "two"}},
		"a.tar":         {two, inTar},
		"a.tar.gz":      {pack(t, ".gz", two), inTar},
		"a.tgz":         {pack(t, ".gz", two), inTar},
		"a.tar.zst":     {pack(t, ".zst", two), inTar},
		"a.tar.xz":      {pack(t, ".xz", two), inTar},
	} {
		t.Run(name, func(t *testing.T) {
			path := put(t, t.TempDir(), name, c.content)
			got, err := readAll([]string{path}, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got.texts); diff != "" {
				t.Errorf("documents (-want +got):\n%s", diff)
			}
			plan, err := Find([]string{path}, Options{})
			if err != nil {
				t.Fatal(err)
			}
			info, err := plan.Loose[0].Read(context.Background(), new(recorder))
			if err != nil {
				t.Fatal(err)
			}
			if sum := sha256.Sum256(c.content); info.SHA256 != hex.EncodeToString(sum[:]) || info.Bytes != int64(len(c.content)) {
				t.Errorf("source is %+v", info)
			}
		})
	}
}

// Old tools on Windows put backslashes between the folders of a zip archive, and at the end of
// a folder's own entry.
func TestBackslashes(t *testing.T) {
	path := put(t, t.TempDir(), "a.zip", zipped(t, map[string]string{`x\y\b.txt`: "b", `x\.hidden.txt`: "c", `__MACOSX\b.txt`: "d", `x\folder.txt\`: ""}))
	read, err := readAll([]string{path}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{path + ": x/y/b.txt"}; !slices.Equal(read.places, want) || !slices.Equal(read.texts, []string{"b"}) {
		t.Errorf("read %q from %q, want b from %q", read.texts, read.places, want)
	}
}

func TestRefused(t *testing.T) {
	zeros := strings.Repeat("\x00", 100<<20)
	gz := pack(t, ".gz", []byte(strings.Repeat(packedText, 1000)))
	for name, c := range map[string]struct {
		content []byte
		opts    Options
		want    string
	}{
		"cut.txt.gz":     {gz[:len(gz)/2], Options{}, "cut.txt.gz is cut short"},
		"cut.tar":        {tarred(t, []string{"a.txt"}, []string{packedText})[:520], Options{}, "cut.tar: a.txt is cut short"},
		"cut lines.tar":  {tarred(t, []string{"a.jsonl"}, []string{"{\"text\": \"a\"}\n"})[:520], Options{}, "a.jsonl is cut short"},
		"empty.txt.gz":   {nil, Options{}, "empty.txt.gz is cut short"},
		"no.txt.gz":      {[]byte(packedText), Options{}, "damaged, or not what its name says"},
		"no.txt.zst":     {[]byte(packedText), Options{}, "damaged, or not what its name says"},
		"no.txt.xz":      {[]byte(packedText), Options{}, "damaged, or not what its name says"},
		"no.txt.bz2":     {[]byte(packedText), Options{}, "damaged, or not what its name says"},
		"no.zip":         {[]byte(packedText), Options{}, "no.zip is damaged"},
		"no.tar":         {[]byte(strings.Repeat(packedText, 100)), Options{}, "no.tar is damaged"},
		"no.parquet":     {[]byte(packedText), Options{}, "no Parquet file"},
		"bomb.txt.gz":    {pack(t, ".gz", []byte(zeros)), Options{}, "more than 250 times"},
		"bomb.txt.zst":   {pack(t, ".zst", []byte(zeros)), Options{}, "more than 250 times"},
		"bomb.zip":       {zipped(t, map[string]string{"a.txt": zeros}), Options{}, "more than 250 times"},
		"up.zip":         {zipped(t, map[string]string{"a.txt": "a", "../b.txt": "b"}), Options{}, `unsafe name "../b.txt"`},
		"root.zip":       {zipped(t, map[string]string{"/etc/b.txt": "b"}), Options{}, "unsafe name"},
		"back.zip":       {zipped(t, map[string]string{`x\..\..\b.txt`: "b"}), Options{}, `unsafe name "x/../../b.txt"`},
		"host.zip":       {zipped(t, map[string]string{`\\host\b.txt`: "b"}), Options{}, "unsafe name"},
		"drive.zip":      {zipped(t, map[string]string{`C:\b.txt`: "b"}), Options{}, "unsafe name"},
		"back.tar":       {tarred(t, []string{`x\b.txt`}, []string{"b"}), Options{}, "unsafe name"},
		"up.tar":         {tarred(t, []string{"a.txt", "x/../../b.txt"}, []string{"a", "b"}), Options{}, "unsafe name"},
		"nothing.zip":    {zipped(t, map[string]string{"a.png": "a"}), Options{}, "has no text in it"},
		"field.parquet":  {parquetFile(t, "a"), Options{Field: "content"}, `no column "content", only id, text`},
		"number.parquet": {parquetFile(t, "a"), Options{Field: "id"}, `"id" is not text`},
		"field.jsonl":    {[]byte("{\"text\":\"a\"}\n{\"Text\":\"b\"}\n"), Options{}, `field.jsonl:2: there is no field "text"`},
		"number.jsonl":   {[]byte("{\"text\":1}\n"), Options{}, `number.jsonl:1: the field "text" is not text`},
		"json.jsonl":     {[]byte("{\"text\":\"a\"}\n\nnot json\n"), Options{}, "json.jsonl:3: not a JSON object"},
		"list.jsonl":     {[]byte("[1]\n"), Options{}, "list.jsonl:1: not a JSON object"},
		"utf8.jsonl":     {[]byte("{\"text\":\"\xff\"}\n"), Options{}, "utf8.jsonl:1: a byte is not UTF-8"},
	} {
		t.Run(name, func(t *testing.T) {
			path := put(t, t.TempDir(), name, c.content)
			_, err := readAll([]string{path}, c.opts)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error is %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b.txt", "a.md", "sub/c.jsonl.gz", "sub/d.png", ".git/e.txt", "f[1].txt"} {
		put(t, dir, name, []byte(name))
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, c := range map[string]struct{ paths, want []string }{
		"folder":       {[]string{dir}, []string{"a.md", "b.txt", "f[1].txt", "sub/c.jsonl.gz"}},
		"glob":         {[]string{at("*.txt")}, []string{"b.txt", "f[1].txt"}},
		"glob in name": {[]string{at("f[1].txt")}, []string{"f[1].txt"}},
		"order":        {[]string{at("b.txt"), at("a.md")}, []string{"b.txt", "a.md"}},
	} {
		t.Run(name, func(t *testing.T) {
			plan, err := Find(c.paths, Options{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, source := range plan.Loose {
				path, err := filepath.Rel(dir, source.(*file).path)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, path)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFindSplits(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"train-00000-of-00002.parquet", "train-00001-of-00002.parquet", "validation.txt.gz", "test.md", "notes.txt", "latest.txt"} {
		put(t, dir, name, []byte(name))
	}
	plan, err := Find([]string{dir}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(len(plan.Splits["train"]), len(plan.Splits["valid"]), len(plan.Splits["test"]), len(plan.Loose))
	if got != "2 1 1 0" {
		t.Errorf("train, valid, test, loose are %s, want 2 1 1 0", got)
	}
	for name, want := range map[string]string{
		"train.txt": "train", "wiki.train.tokens": "train", "ptb.valid.txt": "valid", "dev.jsonl": "valid",
		"my_test.txt": "test", "training.txt": "", "contest.txt": "",
	} {
		if got := splitOf(name); got != want {
			t.Errorf("splitOf(%s) = %q, want %q", name, got, want)
		}
	}
}

func TestStandardInput(t *testing.T) {
	got, err := readAll([]string{"-"}, Options{Stdin: strings.NewReader("piped\n")})
	if err != nil || len(got.texts) != 1 || got.texts[0] != "piped\n" {
		t.Errorf("text: %v, %v", got, err)
	}
	for text, record := range map[string]bool{"{\"t\":\"a\"}\n": true, "{ x }\n": false, "{\"a\", 1}\n": false} {
		if _, err := readAll([]string{"-"}, Options{Stdin: strings.NewReader(text)}); (err != nil) != record {
			t.Errorf("%q without a field: %v", text, err)
		}
	}
	got, err = readAll([]string{"-"}, Options{Field: "t", Stdin: strings.NewReader("{\"t\":\"a\"}\n{\"t\":\"b\"}\n")})
	if err != nil || len(got.texts) != 2 {
		t.Errorf("records: %v, %v", got, err)
	}
}

func TestGodoc(t *testing.T) {
	root := t.TempDir()
	put(t, root, "VERSION", []byte("go9.9\ntime x\n"))
	put(t, root, "src/fmt/doc.go", []byte(`// Copyright 2009 The Go Authors. All rights reserved.
// Use of this source code is governed by a BSD-style licence.

//go:build ignore

/*
Package fmt implements formatted I/O, with functions
analogous to C's "printf".

	x := code(in, a, block)

It has verbs.
*/
package fmt

// A Verb is a letter, followed by nothing.
type Verb int // says what to do

//go:noinline
func f() {
	// ---------------
	// Some words here.
	// v := 1;
}
`))
	put(t, root, "src/fmt/testdata/x.go", []byte("// Not this one.\npackage x\n"))
	t.Setenv("GOROOT", root)
	source, err := FindGodoc()
	if err != nil {
		t.Fatal(err)
	}
	source.Apart = true
	r := new(recorder)
	if _, err := source.Read(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	want := []string{`Package fmt implements formatted I/O , with functions analogous to C 's " printf " .
It has verbs .
A Verb is a letter , followed by nothing .
says what to do
Some words here .
`}
	if diff := cmp.Diff(want, r.texts); diff != "" {
		t.Errorf("documents (-want +got):\n%s", diff)
	}
	if source.Version != "go9.9" {
		t.Errorf("version is %q", source.Version)
	}
	t.Setenv("GOROOT", filepath.Join(root, "nothing"))
	if _, err := FindGodoc(); err == nil {
		t.Error("a GOROOT without source is accepted")
	}
}

// Reading a named pipe ends with the context, also while nobody has opened it for
// writing, and while its writer says nothing.
func TestPipeEndsWithContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	read := func(ctx context.Context) error {
		plan, err := Find([]string{path}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = plan.Loose[0].Read(ctx, &recorder{})
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := read(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("without a writer: %v", err)
	}
	writer, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	ctx, cancel = context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- read(ctx) }()
	if _, err := writer.WriteString("text"); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("with a silent writer: %v", err)
	}
}
