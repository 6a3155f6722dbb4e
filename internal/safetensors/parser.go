package safetensors

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"
)

// parser reads a header token by token. Decoding into a struct would accept
// duplicate names, field names in other capitals, and null for a number.
type parser struct{ decoder *json.Decoder }

func newParser(text []byte) *parser {
	p := &parser{json.NewDecoder(bytes.NewReader(text))}
	p.decoder.UseNumber()
	return p
}

func (p *parser) token() (json.Token, error) {
	t, err := p.decoder.Token()
	if err != nil {
		return nil, formatError("the header is not JSON: %v", err)
	}
	return t, nil
}

func (p *parser) expect(want json.Delim, what string) error {
	t, err := p.token()
	if err == nil && t != want {
		err = formatError("%s: %v where %v should be", what, t, want)
	}
	return err
}

// object reads an object. It calls f to read the value of each key.
func (p *parser) object(f func(key string) error) error {
	if err := p.expect('{', "header"); err != nil {
		return err
	}
	for p.decoder.More() {
		t, err := p.token()
		if err != nil {
			return err
		}
		key, ok := t.(string)
		if !ok {
			return formatError("the header has %v for a key", t)
		}
		if err := f(key); err != nil {
			return err
		}
	}
	return p.expect('}', "header")
}

func (p *parser) text(what string) (string, error) {
	t, err := p.token()
	if err != nil {
		return "", err
	}
	s, ok := t.(string)
	if !ok {
		return "", formatError("%s is not a string", what)
	}
	return s, nil
}

// numbers reads an array of whole numbers from 0 to 2^63-1.
func (p *parser) numbers(what string) ([]int64, error) {
	if err := p.expect('[', what); err != nil {
		return nil, err
	}
	list := []int64{}
	for p.decoder.More() {
		t, err := p.token()
		if err != nil {
			return nil, err
		}
		literal, ok := t.(json.Number)
		if !ok {
			return nil, formatError("%s: %v is not a number", what, t)
		}
		n, err := strconv.ParseUint(literal.String(), 10, 63)
		if err != nil {
			return nil, formatError("%s: %s is not a whole number from 0 to 2^63-1", what, literal)
		}
		list = append(list, int64(n))
	}
	return list, p.expect(']', what)
}

func (p *parser) metadata() (map[string]string, error) {
	m := map[string]string{}
	return m, p.object(func(key string) error {
		if _, twice := m[key]; twice {
			return formatError("the metadata has %q twice", key)
		}
		value, err := p.text("metadata " + strconv.Quote(key))
		m[key] = value
		return err
	})
}

// entry reads the value of a tensor's name. It skips fields that the format does
// not have, as the reference implementation does.
func (p *parser) entry(name string) (entry, error) {
	e := entry{Info: Info{Name: name}}
	seen := map[string]bool{}
	err := p.object(func(field string) error {
		if seen[field] {
			return formatError("tensor %q has %q twice", name, field)
		}
		seen[field] = true
		what := "tensor " + strconv.Quote(name) + ": " + field
		switch field {
		case "dtype":
			dtype, err := p.text(what)
			e.DType = DType(dtype)
			return err
		case "shape":
			shape, err := p.numbers(what)
			e.Shape = shape
			return err
		case "data_offsets":
			offsets, err := p.numbers(what)
			if err == nil && len(offsets) != 2 {
				err = formatError("%s: %d numbers where 2 should be", what, len(offsets))
			}
			if err == nil {
				e.begin, e.end = offsets[0], offsets[1]
			}
			return err
		}
		var other json.RawMessage
		if err := p.decoder.Decode(&other); err != nil {
			return formatError("%s is not JSON: %v", what, err)
		}
		return nil
	})
	if err != nil {
		return e, err
	}
	for _, field := range []string{"dtype", "shape", "data_offsets"} {
		if !seen[field] {
			return e, formatError("tensor %q has no %s", name, field)
		}
	}
	return e, nil
}

// end checks that only white space follows the object.
func (p *parser) end() error {
	if _, err := p.decoder.Token(); err != io.EOF {
		return formatError("something follows the header's object")
	}
	return nil
}
