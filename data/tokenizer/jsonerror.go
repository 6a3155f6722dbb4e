package tokenizer

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// readPart decodes a part of a tokenizer.json, which errors name.
func readPart(name string, part json.RawMessage, into any) error {
	return jsonError(name, json.Unmarshal(part, into))
}

// jsonError says of an error of encoding/json in which part it is, and of a value
// of the wrong type what would be right.
func jsonError(part string, err error) error {
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong):
		place := strings.Trim(part+"."+wrong.Field, ".")
		return fmt.Errorf("%s is %s, want %s", cmp.Or(place, "the whole"), wrong.Value, jsonName(wrong.Type.Kind()))
	case err == nil || part == "":
		return err
	}
	return fmt.Errorf("%s: %w", part, err)
}

// errorLine is where an error of encoding/json came up.
func errorLine(content []byte, err error) int {
	var syntax *json.SyntaxError
	var wrong *json.UnmarshalTypeError
	var offset int64
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.As(err, &wrong):
		offset = wrong.Offset
	}
	return 1 + bytes.Count(content[:min(max(offset, 0), int64(len(content)))], []byte("\n"))
}

// jsonName is what JSON calls that which is read into a kind of Go type.
func jsonName(kind reflect.Kind) string {
	switch kind {
	case reflect.Struct, reflect.Map:
		return "object"
	case reflect.Slice, reflect.Array:
		return "array"
	case reflect.String, reflect.Bool:
		return kind.String()
	}
	return "number"
}
