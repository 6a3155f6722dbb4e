package configs

import (
	"slices"
	"strings"

	"github.com/koala-lm/koala-lm/internal/setting"
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

// Takes reports whether a setting can have the value that text has in a file. allowed
// completes "KEY must be". A key that is no setting takes everything.
func Takes(key, text string) (ok bool, allowed string) {
	d, known := declaration(key)
	if !known {
		return true, ""
	}
	_, ok = d.Domain.Parse(setting.Literal{Text: text})
	return ok, d.Domain.String()
}

// HasWordsAndNumbers reports whether some values of a setting are words and the others
// numbers, such as those of optimizer.r.
func HasWordsAndNumbers(key string) bool {
	d, ok := declaration(key)
	if !ok || len(d.Domain.Words()) == 0 {
		return false
	}
	_, numbers := d.Domain.Accept(0.0) // the word of FloatOr
	return numbers
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
