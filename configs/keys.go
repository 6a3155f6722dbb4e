package configs

import (
	"slices"
	"strings"
)

// Keys lists the key of every setting.
func Keys() []string {
	list := declared().list
	keys := make([]string, len(list))
	for i := range list {
		keys[i] = list[i].Key
	}
	return keys
}

// Words lists the words that are values of a setting, such as the kinds of model for
// model.kind.
func Words(key string) []string {
	d, ok := declaration(key)
	if !ok {
		return nil
	}
	return d.Domain.Words()
}

// sectionOf is the top-level section of a key.
func sectionOf(key string) string {
	section, _, _ := strings.Cut(key, ".")
	return section
}

// isSection reports whether some keys begin with name and a dot.
func isSection(name string) bool {
	return slices.ContainsFunc(Keys(), func(key string) bool { return strings.HasPrefix(key, name+".") })
}

// keysUnder lists the names of settings and sections that follow prefix.
func keysUnder(prefix string) []string {
	var names []string
	for _, key := range Keys() {
		if rest, ok := strings.CutPrefix(key, prefix); ok {
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
