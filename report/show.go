package report

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/koala-lm/koala-lm/metric"
	"github.com/koala-lm/koala-lm/tracking"
)

// Show is the whole record of one run.
type Show struct {
	Run   tracking.RunDetail
	Now   time.Time
	Brief bool // only state, perplexities and metrics, for a terminal that is watched
}

// Write writes the run: sections for people, key and value for programs.
func (s Show) Write(o Output) error {
	switch o.Format {
	case JSON:
		return writeJSON(o.W, NewDetailRecord(s.Run))
	case CSV, Separated:
		return o.Render(s.flat())
	}
	return o.Render(s.sections()...)
}

// flat lists the record as keys and values.
func (s Show) flat() Table {
	t := Table{Columns: []Column{{Name: "key"}, {Name: "value"}}}
	add := func(key string, value any) { t.Rows = append(t.Rows, []any{key, value}) }
	for _, f := range runFields(s.Now) {
		add(f.Name, f.value(s.Run.RunSummary))
	}
	for _, key := range slices.Sorted(maps.Keys(s.Run.Settings)) {
		add("settings."+key, s.Run.Settings[key])
	}
	for _, name := range slices.Sorted(maps.Keys(s.Run.Metrics)) {
		add("metrics."+name, s.Run.Metrics[name].Last)
		add("best."+name, orNil(s.Run.Metrics[name].Best))
	}
	for _, key := range slices.Sorted(maps.Keys(s.Run.DatasetFacts)) {
		add("dataset_facts."+key, s.Run.DatasetFacts[key])
	}
	for _, key := range slices.Sorted(maps.Keys(s.Run.Versions)) {
		add("versions."+key, s.Run.Versions[key])
	}
	add("git_commit", s.Run.Git.Commit)
	add("git_dirty", s.Run.Git.Dirty)
	add("command", commandLine(s.Run.Command))
	return t
}

func (s Show) sections() []Table {
	sections := []Table{s.head()}
	rest := []Table{s.splits(), s.metrics(), s.settings(), s.events()}
	if s.Brief {
		rest = rest[:2]
	}
	for _, section := range rest {
		if len(section.Rows) > 0 {
			sections = append(sections, section)
		}
	}
	return sections
}

// head identifies the run.
func (s Show) head() Table {
	r := s.Run
	t := Table{Title: "Run " + r.Name, Columns: make([]Column, 2)}
	add := func(name, value string) {
		if value != "" {
			t.Rows = append(t.Rows, []any{name, value})
		}
	}
	add("id", r.ID)
	add("status", joinNonEmpty(": ", string(r.Status), r.Reason))
	if s.Brief {
		add("trained", fmt.Sprintf("%s steps, %s tokens, %s", count(r.Steps), count(r.Tokens), span(r.Seconds)))
		return t
	}
	add("note", r.Note)
	add("tags", strings.Join(r.Tags, ", "))
	add("started", fmt.Sprintf("%s (%s)", stamp(r.Started), ago(s.Now)(r.Started)))
	add("ended", stamp(r.Ended))
	add("trained", fmt.Sprintf("%s steps, %s tokens, %s", count(r.Steps), count(r.Tokens), span(r.Seconds)))
	add("dataset", joinNonEmpty(", ", r.Dataset, r.DatasetPath, shorten("fingerprint ", r.DatasetFingerprint)))
	add("dataset facts", pairs(r.DatasetFacts))
	add("parent", r.Parent)
	threads := ""
	if r.Threads > 0 {
		threads = fmt.Sprintf("threads: %d", r.Threads)
	}
	add("machine", joinNonEmpty(", ", r.Host, r.CPU, r.Device, threads))
	dirty := ""
	if r.Git.Dirty {
		dirty = fmt.Sprintf("with local changes (%d lines of diff)", strings.Count(r.Git.Diff, "\n"))
	}
	add("git", joinNonEmpty(" ", shorten("", r.Git.Commit), dirty))
	add("versions", pairs(r.Versions))
	add("command", commandLine(r.Command))
	return t
}

// splits shows the perplexities of each split beside those of models that count: of a
// model that knows only the frequency of each word, and of a 5-gram model. Without these
// references, perplexities mean little.
func (s Show) splits() Table {
	t := Table{Title: "Perplexity", Columns: []Column{
		{Title: "split"}, numeric("ppl"), numeric("best"), {Title: "at step", Right: true, Human: count},
		numeric("word ppl"), numeric("bits/byte"), numeric("unigram ppl"), numeric("5-gram ppl"), numeric("ppl / 5-gram"),
	}}
	for _, split := range []string{"val", "test"} {
		ppl, measured := s.Run.Metrics[split+"_ppl"]
		unigram, known := s.Run.Metrics[split+"_"+metric.UnigramPPL]
		ngram, compared := s.Run.Metrics[split+"_"+metric.NGramPPL]
		if !measured && !known {
			continue
		}
		row := []any{map[string]string{"val": "valid", "test": "test"}[split], nil, nil, nil,
			s.last(split + "_word_ppl"), s.last(split + "_bits_per_byte"), nil, nil, nil}
		if measured {
			row[1], row[2], row[3] = ppl.Last, orNil(ppl.Best), ppl.BestStep
		}
		if known {
			row[6] = unigram.Last
		}
		if compared {
			row[7] = ngram.Last
		}
		if measured && compared {
			row[8] = ppl.Last / ngram.Last
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

func (s Show) last(metric string) any {
	if m, known := s.Run.Metrics[metric]; known {
		return m.Last
	}
	return nil
}

func (s Show) settings() Table {
	t := Table{Title: "Settings", Columns: []Column{{}, {Human: brief(80)}}}
	for _, key := range slices.Sorted(maps.Keys(s.Run.Settings)) {
		value := s.Run.Settings[key]
		if value == nil {
			value = "null"
		}
		t.Rows = append(t.Rows, []any{key, value})
	}
	return t
}

func (s Show) metrics() Table {
	t := Table{Title: "Metrics", Columns: []Column{
		{Title: "metric"}, numeric("last"), {Title: "at step", Right: true, Human: count},
		numeric("best"), {Title: "at step", Right: true, Human: count},
	}}
	for _, name := range slices.Sorted(maps.Keys(s.Run.Metrics)) {
		m := s.Run.Metrics[name]
		format := metricFormat(name)
		row := []any{name, format(m.Last), m.Step, nil, nil}
		if !math.IsNaN(m.Best) {
			row[3], row[4] = format(m.Best), m.BestStep
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

func (s Show) events() Table {
	t := Table{Title: "Events", Columns: make([]Column, 3)}
	for _, e := range s.Run.Events {
		t.Rows = append(t.Rows, []any{e.Time, e.Kind, e.Message})
	}
	return t
}

func numeric(title string) Column { return Column{Title: title, Right: true, Human: significant} }

func joinNonEmpty(separator string, parts ...string) string {
	parts = slices.DeleteFunc(parts, func(s string) bool { return s == "" })
	return strings.Join(parts, separator)
}

// shorten writes the first 12 characters of a hash.
func shorten(label, hash string) string {
	if hash == "" {
		return ""
	}
	return label + hash[:min(12, len(hash))]
}

func pairs[V any](m map[string]V) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s %s", key, plain(m[key])))
	}
	return strings.Join(parts, ", ")
}

// commandLine quotes arguments for a shell.
func commandLine(args []string) string {
	quoted := make([]string, len(args))
	for i, arg := range args {
		quoted[i] = arg
		if arg == "" || strings.ContainsAny(arg, " \t\n\"'`$&|;<>()*?[]{}#~\\!") {
			quoted[i] = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}
