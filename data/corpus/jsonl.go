package corpus

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// longestLine bounds the memory that a line of JSON may take.
const longestLine = 256 << 20

// byteOrderMark may stand before JSON without being part of it, as some editors
// have it.
var byteOrderMark = []byte("\ufeff")

// jsonl reads JSON lines: each line an object, the text in one field of it. A
// record without text (null, or an empty line) is passed over.
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
			place := fmt.Sprintf("%s:%d", name, number)
			text, err := r.record(content)
			if err != nil {
				return fmt.Errorf("%s: %w", place, err)
			}
			if err := document(r.sink, place, text); err != nil {
				return err
			}
		}
		if ended {
			return nil
		}
	}
}

// readLine appends a line and its end to dst.
func readLine(r *bufio.Reader, dst []byte) ([]byte, error) {
	for {
		part, err := r.ReadSlice('\n')
		dst = append(dst, part...)
		if len(dst) > longestLine {
			return dst, fmt.Errorf("the line is longer than %d MiB", longestLine>>20)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return dst, err
		}
	}
}

// record returns the text of one object.
func (r reading) record(content []byte) ([]byte, error) {
	if !r.opts.ReplaceInvalid && !utf8.Valid(content) {
		return nil, errors.New("a byte is not UTF-8: convert the file, or use --invalid replace")
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(content, &fields); err != nil {
		return nil, fmt.Errorf("not a JSON object: %w", err)
	}
	field := r.opts.field()
	value, ok := fields[field]
	if !ok {
		return nil, fmt.Errorf("there is no field %q: name the field of the text with --field", field)
	}
	var text *string
	if err := json.Unmarshal(value, &text); err != nil {
		return nil, fmt.Errorf("the field %q is not text", field)
	}
	if text == nil {
		return nil, nil
	}
	return []byte(*text), nil
}
