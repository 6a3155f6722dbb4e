package configs

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/koala-lm/koala-lm/internal/setting"
	"github.com/koala-lm/koala-lm/lm/spec"
)

// A KeyValue is one setting: a string, bool, int64, float64, []int64 or []string by key.
type KeyValue struct {
	Key   string
	Value any
}

// Text writes a value of Flat as in a file.
func Text(v any) string { return setting.Text(v) }

// Flat lists the settings that exist for the chosen kinds, in the order of Keys.
func (s Settings) Flat() []KeyValue {
	list := s.list()
	get := spec.Lookup(list)
	flat := make([]KeyValue, 0, len(list))
	for i := range list {
		if one := &list[i]; one.Applies(get) {
			flat = append(flat, KeyValue{one.Key, one.Get()})
		}
	}
	return flat
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

// UnmarshalJSON reads the output of MarshalJSON of this version or an earlier one,
// with the checks of a file. A missing key takes its default.
func (s *Settings) UnmarshalJSON(text []byte) error {
	var b Builder
	b.source("", text, true) // JSON is YAML
	settings, err := b.Settings()
	if err != nil {
		return err
	}
	*s = settings
	return nil
}

// Diff lists the keys in which two settings differ, in the order of Keys.
func Diff(a, b Settings) []string {
	values := func(s Settings) map[string]string {
		texts := map[string]string{}
		for _, kv := range s.Flat() {
			texts[kv.Key] = Text(kv.Value)
		}
		return texts
	}
	inA, inB := values(a), values(b)
	var keys []string
	for _, key := range Keys() {
		before, existed := inA[key]
		after, exists := inB[key]
		if existed != exists || before != after {
			keys = append(keys, key)
		}
	}
	return keys
}
