package configs

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A field describes one setting.
type field struct {
	key     string // dotted, as in files and on the command line
	meaning string // one line, with its unit

	at       func(*Settings) any // pointer to where its value lives
	in       domain
	byModel  [2]any              // default: recurrent, Transformer
	byOption func(*Settings) any // default where it depends on more

	optionText string // that default in words, for the reference

	// A setting that means something beside some kinds only names the setting
	// that chooses the kind, and those kinds.
	kindKey string
	kinds   []string
}

// fallback is the setting's default, given the settings before it in the table.
func (f *field) fallback(s *Settings) any {
	if f.byOption != nil {
		return f.byOption(s)
	}
	if s.Model.Recurrent() {
		return f.byModel[0]
	}
	return f.byModel[1]
}

// applies says whether the setting means anything beside the kinds in s.
func (f *field) applies(s *Settings) bool {
	return f.kindKey == "" || slices.Contains(f.kinds, byKey[f.kindKey].get(s).(string))
}

// set stores a value of the field's domain, or a default written as an
// untyped constant in the table.
func (f *field) set(s *Settings, v any) {
	switch p := f.at(s).(type) {
	case *string:
		*p = v.(string)
	case *bool:
		*p = v.(bool)
	case *int:
		if wide, ok := v.(int64); ok {
			v = int(wide)
		}
		*p = v.(int)
	case *int64:
		if narrow, ok := v.(int); ok {
			v = int64(narrow)
		}
		*p = v.(int64)
	case *float64:
		if whole, ok := v.(int); ok {
			v = float64(whole)
		}
		*p = v.(float64)
	case **float64:
		*p, _ = v.(*float64)
	case *[]int:
		*p, _ = v.([]int)
	case *time.Duration:
		*p, _ = v.(time.Duration)
	}
}

// get is the setting's value as a string, bool, int64, float64 or []int; an
// adaptive number is the word adaptive, and a length of time is its text.
func (f *field) get(s *Settings) any {
	switch p := f.at(s).(type) {
	case *string:
		return *p
	case *bool:
		return *p
	case *int:
		return int64(*p)
	case *int64:
		return *p
	case *float64:
		return *p
	case **float64:
		if *p == nil {
			return "adaptive"
		}
		return **p
	case *[]int:
		return append([]int{}, *p...)
	case *time.Duration:
		return p.String()
	}
	return nil
}

// Text writes a value of Flat as it would be written in a file.
func Text(v any) string {
	switch v := v.(type) {
	case float64:
		return number(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case []int:
		items := make([]string, len(v))
		for i, n := range v {
			items[i] = strconv.Itoa(n)
		}
		return "[" + strings.Join(items, ", ") + "]"
	case []any: // a list that went through JSON
		items := make([]string, len(v))
		for i, item := range v {
			items[i] = Text(item)
		}
		return "[" + strings.Join(items, ", ") + "]"
	}
	return fmt.Sprint(v)
}
