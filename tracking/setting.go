package tracking

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
)

// encodeSetting returns the SQL value of a setting, and the type that decodeSetting
// needs: SQL holds booleans as 0 and 1, and lists and maps as JSON.
func encodeSetting(value any) (stored any, kind string, err error) {
	if value == nil {
		return nil, "null", nil
	}
	v := reflect.ValueOf(value)
	switch {
	case v.Kind() == reflect.Bool:
		return v.Bool(), "boolean", nil
	case v.CanInt():
		return v.Int(), "integer", nil
	case v.CanUint() && v.Uint() <= math.MaxInt64:
		return int64(v.Uint()), "integer", nil
	case v.CanFloat():
		if f := v.Float(); math.IsNaN(f) || math.IsInf(f, 0) {
			return nil, "", fmt.Errorf("%v is not a number that can be kept", f)
		}
		return v.Float(), "real", nil
	case v.Kind() == reflect.String:
		return v.String(), "text", nil
	}
	text, err := json.Marshal(value)
	if err != nil {
		return nil, "", err
	}
	return string(text), "json", nil
}

// decodeSetting inverts encodeSetting. It returns nil, bool, int64, float64,
// string, []any or map[string]any.
func decodeSetting(stored any, kind string) any {
	switch value := stored.(type) {
	case int64:
		if kind == "boolean" {
			return value != 0
		}
		if kind == "real" {
			return float64(value)
		}
	case string:
		var decoded any
		if kind == "json" && decodeJSON(value, &decoded) == nil {
			return plainNumbers(decoded)
		}
	}
	return stored
}

// decodeJSON reads JSON and keeps its numbers as text.
func decodeJSON(text string, into any) error {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	return decoder.Decode(into)
}

// plainNumbers turns the numbers of a decoded value into int64 where they are whole,
// else into float64: a vocabulary has 8000 entries, not 8e+03.
func plainNumbers(value any) any {
	switch v := value.(type) {
	case json.Number:
		if whole, err := v.Int64(); err == nil {
			return whole
		}
		number, err := v.Float64()
		if err != nil {
			return v.String()
		}
		return number
	case []any:
		for i := range v {
			v[i] = plainNumbers(v[i])
		}
	case map[string]any:
		for key := range v {
			v[key] = plainNumbers(v[key])
		}
	}
	return value
}
