package configs

import "strings"

// An Entry is a line of the settings reference.
type Entry struct {
	Key     string
	Default string // including kinds with another default
	Allowed string // completes "must be"
	For     string // the kinds for which it exists; empty: all
	Meaning string
}

// Reference describes every setting, in the order of Keys.
func Reference() []Entry {
	list := declared().list
	entries := make([]Entry, len(list))
	for i := range list {
		d := &list[i]
		entries[i] = Entry{Key: d.Key, Default: d.Default.Text(d.Domain), Allowed: d.Domain.String(), Meaning: d.Meaning}
		var conditions []string
		for _, c := range d.Only {
			conditions = append(conditions, c.String())
		}
		entries[i].For = strings.Join(conditions, " and ")
	}
	return entries
}
