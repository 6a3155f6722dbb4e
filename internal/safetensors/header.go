package safetensors

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"unicode/utf8"
)

// MaxHeader is the largest length of a header, in bytes.
const MaxHeader = 100_000_000

// metadataKey is the name in the header that no tensor can have.
const metadataKey = "__metadata__"

// entry is a tensor in the header and its range [begin, end) of the data.
type entry struct {
	Info
	begin, end int64
}

// parseHeader parses a header that dataSize bytes of data follow. It returns the
// entries in the order of the data.
func parseHeader(text []byte, dataSize int64) (entries []entry, metadata map[string]string, err error) {
	if !utf8.Valid(text) {
		return nil, nil, formatError("the header is not UTF-8")
	}
	if len(text) == 0 || text[0] != '{' {
		return nil, nil, formatError("the header does not start with {")
	}
	p := newParser(text)
	seen := map[string]bool{}
	err = p.object(func(name string) error {
		if seen[name] {
			return formatError("the header has %q twice", name)
		}
		seen[name] = true
		if name == metadataKey {
			metadata, err = p.metadata()
			return err
		}
		e, err := p.entry(name)
		entries = append(entries, e)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	if err := p.end(); err != nil {
		return nil, nil, err
	}
	slices.SortFunc(entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.begin, b.begin), cmp.Compare(a.end, b.end), cmp.Compare(a.Name, b.Name))
	})
	return entries, metadata, checkPlaces(entries, dataSize)
}

// checkPlaces checks that each tensor starts where the previous one ends, that
// its length fits its type and shape, and that the last one ends with the file.
func checkPlaces(entries []entry, dataSize int64) error {
	at := int64(0)
	for _, e := range entries {
		need, err := e.Bytes()
		if err != nil {
			return err
		}
		if e.begin != at || e.end < e.begin {
			return formatError("tensor %v: its data is at %d to %d, where it should start at %d", e.Info, e.begin, e.end, at)
		}
		if e.end-e.begin != need {
			return formatError("tensor %v: %d bytes of data, where its type and shape make %d", e.Info, e.end-e.begin, need)
		}
		at = e.end
	}
	if at != dataSize {
		return formatError("the tensors take %d bytes and the file has %d for them: it is cut off, or something follows", at, dataSize)
	}
	return nil
}

// layout sorts tensors into the order of the file and sets their offsets.
func layout(tensors []Info) ([]entry, error) {
	entries := make([]entry, len(tensors))
	for i, t := range tensors {
		entries[i].Info = t
	}
	slices.SortFunc(entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(b.DType.rank(), a.DType.rank()), cmp.Compare(a.Name, b.Name))
	})
	at := int64(0)
	for i := range entries {
		e := &entries[i]
		n, err := e.Bytes()
		switch {
		case err != nil:
			return nil, err
		case e.Name == metadataKey || !utf8.ValidString(e.Name):
			return nil, formatError("a tensor cannot be named %q", e.Name)
		case at > 1<<63-1-n:
			return nil, formatError("the tensors together are too large")
		}
		e.begin, e.end = at, at+n
		at = e.end
	}
	return entries, checkNames(entries)
}

func checkNames(entries []entry) error {
	seen := make(map[string]bool, len(entries))
	for _, e := range entries {
		if seen[e.Name] {
			return formatError("two tensors are named %q", e.Name)
		}
		seen[e.Name] = true
	}
	return nil
}

// formatHeader writes the header, padded with spaces so that the data after it
// and the 8 bytes before it is aligned to 8 bytes.
func formatHeader(entries []entry, metadata map[string]string) ([]byte, error) {
	b := []byte{'{'}
	separate := func() {
		if len(b) > 1 {
			b = append(b, ',')
		}
	}
	if len(metadata) > 0 {
		b = append(appendString(b, metadataKey), ":{"...)
		for i, key := range sortedKeys(metadata) {
			if !utf8.ValidString(key) || !utf8.ValidString(metadata[key]) {
				return nil, formatError("metadata %q is not UTF-8", key)
			}
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendString(b, key), ':')
			b = appendString(b, metadata[key])
		}
		b = append(b, '}')
	}
	for _, e := range entries {
		separate()
		b = append(appendString(b, e.Name), `:{"dtype":"`...)
		b = append(b, e.DType...)
		b = append(b, `","shape":[`...)
		for i, dimension := range e.Shape {
			if i > 0 {
				b = append(b, ',')
			}
			b = strconv.AppendInt(b, dimension, 10)
		}
		b = append(b, `],"data_offsets":[`...)
		b = append(strconv.AppendInt(b, e.begin, 10), ',')
		b = append(strconv.AppendInt(b, e.end, 10), "]}"...)
	}
	b = append(b, '}')
	for len(b)%8 != 0 {
		b = append(b, ' ')
	}
	if len(b) > MaxHeader {
		return nil, formatError("the header would have %d bytes, more than %d", len(b), MaxHeader)
	}
	return b, nil
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// appendString appends s as a JSON string.
func appendString(b []byte, s string) []byte {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // encoding a string to memory cannot fail
	return append(b, bytes.TrimSuffix(text.Bytes(), []byte{'\n'})...)
}
