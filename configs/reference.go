package configs

// An Entry is a line of the settings reference.
type Entry struct {
	Key     string
	Default string // a Transformer's in parentheses where it has one of its own
	Allowed string // completes "must be"
	For     string // the kinds beside which it means something; empty is all
	Meaning string
}

// Reference describes every setting, in the order of the table.
func Reference() []Entry {
	entries := make([]Entry, len(fields))
	for i := range fields {
		f := &fields[i]
		entries[i] = Entry{Key: f.key, Default: f.defaultText(), Allowed: f.in.String(), Meaning: f.meaning}
		if f.kindKey != "" {
			entries[i].For = f.kindKey + " " + orList(f.kinds)
		}
	}
	return entries
}

func (f *field) defaultText() string {
	if f.byOption != nil {
		return f.optionText
	}
	recurrent, transformer := f.textOf(f.byModel[0]), f.textOf(f.byModel[1])
	if f.kindKey == "model.kind" || recurrent == transformer {
		return recurrent
	}
	return recurrent + " (" + transformer + ")"
}

// textOf writes a default from the table as Flat would have it.
func (f *field) textOf(v any) string {
	var s Settings
	f.set(&s, v)
	return Text(f.get(&s))
}
