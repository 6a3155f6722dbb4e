package corpus

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Records are the formats whose documents are records with named fields: JSON, one
// value a line or an array of values, and CSV. A field is named by its path, such
// as meta.text; a path through a list selects each element. A template joins
// several fields.

// longestRecord bounds the memory that one record may take.
const longestRecord = 256 << 20

// byteOrderMark may precede a text without being part of it: some editors write
// it.
var byteOrderMark = []byte("\ufeff")

// Template makes a document from the fields of a record. It is text with the names
// of fields in braces.
type Template struct {
	parts []templatePart
}

type templatePart struct {
	text string
	path []string // the path of a field; nil for text
}

// ParseTemplate reads a template such as "{title}\n\n{text}". \n, \t and \\ are
// escapes; {{ and }} are braces.
func ParseTemplate(source string) (*Template, error) {
	t := &Template{}
	var text strings.Builder
	fields := 0
	for rest := source; rest != ""; {
		switch {
		case strings.HasPrefix(rest, "{{"), strings.HasPrefix(rest, "}}"):
			text.WriteByte(rest[0])
			rest = rest[2:]
		case strings.HasPrefix(rest, `\n`), strings.HasPrefix(rest, `\t`), strings.HasPrefix(rest, `\\`):
			text.WriteByte(map[byte]byte{'n': '\n', 't': '\t', '\\': '\\'}[rest[1]])
			rest = rest[2:]
		case rest[0] == '{':
			name, after, ok := strings.Cut(rest[1:], "}")
			if !ok || name == "" {
				return nil, fmt.Errorf("%q: a { opens no field: write {name}, or {{ for a brace", source)
			}
			t.parts = append(t.parts, templatePart{text: text.String()}, templatePart{path: strings.Split(name, ".")})
			text.Reset()
			rest = after
			fields++
		case rest[0] == '}':
			return nil, fmt.Errorf("%q: a } without its {: write }} for a brace", source)
		default:
			text.WriteByte(rest[0])
			rest = rest[1:]
		}
	}
	if fields == 0 {
		return nil, fmt.Errorf("%q names no field: write {text}", source)
	}
	t.parts = append(t.parts, templatePart{text: text.String()})
	return t, nil
}

// template returns the options' template, or one of the single field.
func (o Options) template() *Template {
	if o.Template != nil {
		return o.Template
	}
	return &Template{[]templatePart{{path: strings.Split(o.field(), ".")}}}
}

// paths are the fields that a template names.
func (t *Template) paths() (paths [][]string) {
	for _, p := range t.parts {
		if p.path != nil {
			paths = append(paths, p.path)
		}
	}
	return paths
}

// fill makes the document. values are the texts of the fields in paths, nil for a
// missing one. If all are missing there is no document.
func (t *Template) fill(values [][]byte) []byte {
	text := []byte{} // not nil: an empty text is a document too
	any, i := false, 0
	for _, p := range t.parts {
		if p.path == nil {
			text = append(text, p.text...)
			continue
		}
		any = any || values[i] != nil
		text = append(text, values[i]...)
		i++
	}
	if !any {
		return nil
	}
	return text
}

// bad skips and counts a record if the options say so; otherwise it returns the
// error.
func (r reading) bad(place string, err error) error {
	if r.opts.Skipped == nil {
		return fmt.Errorf("%s: %w", place, err)
	}
	r.opts.Skipped(fmt.Sprintf("%s: %v", place, err))
	return nil
}

// jsonl reads JSON lines, one value a line. It skips empty lines.
func (r reading) jsonl(from io.Reader, name string) error {
	lines := bufio.NewReaderSize(from, 1<<18)
	var line []byte
	for number := 1; ; number++ {
		var err error
		line, err = readLine(lines, line[:0])
		if err != nil && err != io.EOF {
			return readError(name, fmt.Errorf("%s:%d: %w", name, number, err))
		}
		ended := err == io.EOF
		if number == 1 {
			line = bytes.TrimPrefix(line, byteOrderMark)
		}
		if content := bytes.TrimSpace(line); len(content) > 0 {
			if err := r.jsonRecord(content, fmt.Sprintf("%s:%d", name, number)); err != nil {
				return err
			}
		}
		if ended {
			return nil
		}
	}
}

// json reads an array of values, or values one after another.
func (r reading) json(from io.Reader, name string) error {
	buffered := bufio.NewReaderSize(from, 1<<18)
	if head, _ := buffered.Peek(len(byteOrderMark)); bytes.Equal(head, byteOrderMark) {
		_, _ = buffered.Discard(len(byteOrderMark))
	}
	limited := &recordLimit{r: &finite{r: buffered}}
	dec := json.NewDecoder(limited)
	array := false
	for {
		c, err := buffered.Peek(1)
		if err != nil || bytes.IndexByte([]byte(" \t\r\n"), c[0]) < 0 {
			array = err == nil && c[0] == '['
			break
		}
		_, _ = buffered.Discard(1)
	}
	if array {
		_, _ = dec.Token()
	}
	for number := 1; ; number++ {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		if array && !dec.More() {
			if _, err := dec.Token(); err != nil {
				return r.jsonError(name, number, err)
			}
			return nil
		}
		limited.n = 0
		var record json.RawMessage
		if err := dec.Decode(&record); err == io.EOF && !array {
			return nil
		} else if err != nil {
			return r.jsonError(name, number, err)
		}
		if err := r.jsonRecord(record, fmt.Sprintf("%s: record %d", name, number)); err != nil {
			return err
		}
	}
}

func (r reading) jsonError(name string, number int, err error) error {
	var syntax *json.SyntaxError
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("the file is cut short")
	} else if !errors.As(err, &syntax) {
		return readError(name, err)
	}
	return fmt.Errorf("%s: record %d: %w", name, number, err)
}

// recordLimit fails if a record is longer than longestRecord.
type recordLimit struct {
	r io.Reader
	n int
}

func (l *recordLimit) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if l.n += n; l.n > longestRecord {
		return 0, fmt.Errorf("a record is longer than %d MiB", longestRecord>>20)
	}
	return n, err
}

// readLine appends a line and its end to dst.
func readLine(r *bufio.Reader, dst []byte) ([]byte, error) {
	for {
		part, err := r.ReadSlice('\n')
		dst = append(dst, part...)
		if len(dst) > longestRecord {
			return dst, fmt.Errorf("the line is longer than %d MiB", longestRecord>>20)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return dst, err
		}
	}
}

// finite puts null in place of NaN and Infinity, which Python writes though JSON
// has no such numbers.
type finite struct {
	r       io.Reader
	inText  bool
	escaped bool
	held    []byte // the start of a word that is not whole yet
	out     []byte
}

var infinities = [][]byte{[]byte("NaN"), []byte("Infinity"), []byte("-Infinity")}

func (f *finite) Read(p []byte) (int, error) {
	for len(f.out) == 0 {
		buffer := make([]byte, max(512, len(p)))
		n, err := f.r.Read(buffer)
		for _, c := range buffer[:n] {
			f.put(c)
		}
		if err != nil {
			f.out, f.held = append(f.out, f.held...), nil
			if len(f.out) == 0 {
				return 0, err
			}
			break
		}
	}
	n := copy(p, f.out)
	f.out = f.out[n:]
	return n, nil
}

func (f *finite) put(c byte) {
	if f.inText {
		f.out = append(f.out, c)
		f.inText = f.escaped || c != '"'
		f.escaped = !f.escaped && c == '\\'
		return
	}
	f.held = append(f.held, c)
	for _, word := range infinities {
		if bytes.Equal(word, f.held) {
			f.out, f.held = append(f.out, "null"...), f.held[:0]
			return
		}
		if bytes.HasPrefix(word, f.held) {
			return
		}
	}
	f.inText = c == '"'
	f.out, f.held = append(f.out, f.held...), f.held[:0]
}

// jsonRecord writes a record's document to the sink.
func (r reading) jsonRecord(content []byte, place string) error {
	text, err := r.record(content)
	if err != nil {
		return r.bad(place, err)
	}
	return document(r.sink, place, text) // an empty document if there is no text
}

// record returns the document of one value: an object with the fields of the
// template, or a string, which is a document itself. It is nil if there is no
// text.
func (r reading) record(content []byte) ([]byte, error) {
	if !r.opts.ReplaceInvalid && !utf8.Valid(content) {
		return nil, errors.New("a byte is not UTF-8: convert the file, or use --invalid replace")
	}
	var fields map[string]json.RawMessage
	err := json.Unmarshal(content, &fields)
	if err != nil {
		var text string
		if json.Unmarshal(content, &text) == nil {
			return []byte(text), nil
		}
		repaired, readErr := io.ReadAll(&finite{r: bytes.NewReader(content)})
		if readErr != nil || json.Unmarshal(repaired, &fields) != nil {
			return nil, fmt.Errorf("not a JSON object: %w", err)
		}
	}
	t := r.opts.template()
	var values [][]byte
	for _, path := range t.paths() {
		value, err := jsonField(fields, path)
		if err != nil {
			return nil, err
		}
		values = append(values, value)
	}
	return t.fill(values), nil
}

// jsonField follows a path into an object; the text of null is nil.
func jsonField(fields map[string]json.RawMessage, path []string) ([]byte, error) {
	whole := strings.Join(path, ".")
	value, ok := fields[whole] // a name with a dot in it
	rest := []string(nil)
	for n := 1; !ok && n <= len(path); n++ {
		value, ok = fields[strings.Join(path[:n], ".")]
		rest = path[n:]
	}
	if !ok {
		return nil, fmt.Errorf("there is no field %q: name the field of the text with --field", whole)
	}
	return jsonText(value, rest, whole)
}

func jsonText(value json.RawMessage, path []string, whole string) ([]byte, error) {
	switch value = bytes.TrimSpace(value); {
	case string(value) == "null":
		return nil, nil
	case len(value) > 0 && value[0] == '[': // a list: one line for each element's text
		var list []json.RawMessage
		if err := json.Unmarshal(value, &list); err != nil {
			return nil, err
		}
		var joined []byte
		for _, element := range list {
			text, err := jsonText(element, path, whole)
			if err != nil {
				return nil, err
			}
			if text == nil {
				continue
			}
			if joined != nil {
				joined = append(joined, '\n')
			}
			joined = append(joined, text...)
			if joined == nil {
				joined = []byte{}
			}
		}
		return joined, nil
	case len(path) > 0:
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(value, &fields); err != nil {
			return nil, fmt.Errorf("the field %q leads to no object", whole)
		}
		return jsonField(fields, path)
	}
	var text string
	if err := json.Unmarshal(value, &text); err != nil {
		if bytes.IndexByte([]byte("-0123456789tf"), value[0]) >= 0 && len(whole) > 0 {
			return nil, fmt.Errorf("the field %q is not text", whole)
		}
		return nil, fmt.Errorf("the field %q is not text, but an object: name what is in it, as in %s.text", whole, whole)
	}
	return []byte(text), nil
}

// csv reads records whose first line names their fields.
func (r reading) csv(from io.Reader, comma rune, name string) error {
	buffered := bufio.NewReaderSize(from, 1<<18)
	if head, _ := buffered.Peek(len(byteOrderMark)); bytes.Equal(head, byteOrderMark) {
		_, _ = buffered.Discard(len(byteOrderMark))
	}
	// A last record of our own shows a quote that is never closed, which the reader does
	// not mind: then it is a part of the field.
	const end = "\x00end of file\x00"
	limited := &recordLimit{r: io.MultiReader(buffered, strings.NewReader("\n"+end))}
	records := csv.NewReader(limited)
	records.Comma, records.LazyQuotes, records.ReuseRecord, records.FieldsPerRecord = comma, true, true, -1
	header, err := records.Read()
	if err == nil && (strings.HasPrefix(header[0], "\xff\xfe") || strings.HasPrefix(header[0], "\xfe\xff")) {
		return fmt.Errorf("%s starts as UTF-16 does: use --encoding utf-16", name)
	}
	if err == nil && header[0] == end {
		err = io.EOF
	}
	if err != nil {
		return readError(name, fmt.Errorf("%s: the first line does not name the fields: %w", name, err))
	}
	t := r.opts.template()
	var columns []int
	for _, path := range t.paths() {
		at := -1
		for i, field := range header {
			if strings.TrimSpace(field) == strings.Join(path, ".") {
				at = i
			}
		}
		if at < 0 && len(header) == 1 && strings.ContainsAny(header[0], ";\t") {
			return fmt.Errorf("%s: the first line %q has no comma: fields are divided by commas, and by tabs in a .tsv (--input-format tsv)", name, header[0])
		}
		if at < 0 {
			return fmt.Errorf("%s has no field %q, only %s: name the field of the text with --field", name, strings.Join(path, "."), strings.Join(header, ", "))
		}
		columns = append(columns, at)
	}
	values := make([][]byte, len(columns))
	for {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		limited.n = 0
		fields, err := records.Read()
		if err != nil {
			return readError(name, fmt.Errorf("%s: %w", name, err))
		}
		if len(fields) == 1 && fields[0] == end {
			return nil
		}
		if last := len(fields) - 1; strings.HasSuffix(fields[last], end) {
			line, _ := records.FieldPos(last)
			return r.bad(fmt.Sprintf("%s:%d", name, line), errors.New("a quote is opened here and never closed"))
		}
		line, _ := records.FieldPos(0)
		place, short := fmt.Sprintf("%s:%d", name, line), false
		for i, at := range columns {
			if short = short || at >= len(fields); !short {
				values[i] = []byte(fields[at])
			}
		}
		if short {
			if err := r.bad(place, fmt.Errorf("there are %d fields, the first line names more", len(fields))); err != nil {
				return err
			}
			continue
		}
		if err := document(r.sink, place, t.fill(values)); err != nil {
			return err
		}
	}
}
