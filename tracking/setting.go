package tracking

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
)

// encodeSetting splits a value into what SQLite stores and the type that brings
// it back: booleans are 0 and 1 in SQL, lists and maps are JSON text.
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

// decodeSetting undoes encodeSetting. What comes back is nil, bool, int64,
// float64, string, or what encoding/json makes of a list or a map.
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
		if kind == "json" && json.Unmarshal([]byte(value), &decoded) == nil {
			return decoded
		}
	}
	return stored
}
