package configs

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// A KeyValue is one setting: a string, bool, int64, float64 or []int by key.
type KeyValue struct {
	Key   string
	Value any
}

// Flat lists the settings that mean something for the kinds chosen, in the
// order of the table.
func (s Settings) Flat() []KeyValue {
	list := make([]KeyValue, 0, len(fields))
	for i := range fields {
		if f := &fields[i]; f.applies(&s) {
			list = append(list, KeyValue{f.key, f.get(&s)})
		}
	}
	return list
}

// MarshalJSON writes one object with dotted keys.
func (s Settings) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, kv := range s.Flat() {
		if i > 0 {
			b.WriteByte(',')
		}
		value, err := json.Marshal(kv.Value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", kv.Key, err)
		}
		fmt.Fprintf(&b, "%q:%s", kv.Key, value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// UnmarshalJSON reads what MarshalJSON writes, with all the checks of a file;
// a key that is missing takes its default.
func (s *Settings) UnmarshalJSON(text []byte) error {
	var b Builder
	b.Source("", text) // JSON is YAML
	settings, err := b.Settings()
	if err != nil {
		return err
	}
	*s = settings
	return nil
}

// Diff lists the keys in which two settings differ, in the order of the table.
func Diff(a, b Settings) []string {
	var keys []string
	for i := range fields {
		f := &fields[i]
		inA, inB := f.applies(&a), f.applies(&b)
		if inA != inB || inA && Text(f.get(&a)) != Text(f.get(&b)) {
			keys = append(keys, f.key)
		}
	}
	return keys
}
