package configs

import (
	"slices"
	"strings"
)

// Keys lists the key of every setting.
func Keys() []string {
	keys := make([]string, len(fields))
	for i := range fields {
		keys[i] = fields[i].key
	}
	return keys
}

// isSection says that settings' keys begin with name and a dot.
func isSection(name string) bool {
	return slices.ContainsFunc(fields, func(f field) bool { return strings.HasPrefix(f.key, name+".") })
}

// keysUnder lists the names that follow prefix, of settings and of sections.
func keysUnder(prefix string) []string {
	var names []string
	for i := range fields {
		if rest, ok := strings.CutPrefix(fields[i].key, prefix); ok {
			name, _, _ := strings.Cut(rest, ".")
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// sections lists the top-level sections.
func sections() []string { return keysUnder("") }

// orList is "a", "a or b", "a, b or c".
func orList(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
