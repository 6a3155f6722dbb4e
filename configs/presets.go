package configs

import (
	"embed"
	"path"
	"slices"
	"strings"

	"github.com/koala-lm/koala-lm/internal/suggest"
)

//go:embed presets/*.yaml
var presetFiles embed.FS

// DefaultPreset is the preset of a training without --config.
const DefaultPreset = "small"

// A Preset is a named file of settings, embedded in the program.
type Preset struct {
	Name  string
	About string // the first line of its comment
	Text  string // YAML
}

// Presets lists the embedded presets by name.
func Presets() []Preset {
	// The folder is embedded: reading it cannot fail.
	entries, _ := presetFiles.ReadDir("presets")
	list := make([]Preset, len(entries))
	for i, entry := range entries {
		text, _ := presetFiles.ReadFile(path.Join("presets", entry.Name()))
		about, _, _ := strings.Cut(string(text), "\n")
		list[i] = Preset{
			Name:  strings.TrimSuffix(entry.Name(), ".yaml"),
			About: strings.TrimPrefix(about, "# "),
			Text:  string(text),
		}
	}
	slices.SortFunc(list, func(a, b Preset) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// IsPreset reports whether name is the name of a preset.
func IsPreset(name string) bool {
	_, ok := findPreset(name)
	return ok
}

func findPreset(name string) (Preset, bool) {
	for _, p := range Presets() {
		if p.Name == name {
			return p, true
		}
	}
	return Preset{}, false
}

// Preset adds a preset's settings.
func (b *Builder) Preset(name string) {
	p, ok := findPreset(name)
	if !ok {
		b.problems.add("", "%s", unknownPreset(name))
		return
	}
	b.Source("preset "+name, []byte(p.Text))
}

func presetNames() []string {
	var names []string
	for _, p := range Presets() {
		names = append(names, p.Name)
	}
	return names
}

func unknownPreset(name string) string {
	text := "no preset and no file is named " + quoted(name)
	if near := suggest.Name(name, presetNames()); near != "" {
		return text + ": did you mean " + near + "?"
	}
	return text + ": the presets are " + strings.Join(presetNames(), ", ")
}

// Config adds a preset or a file of settings. A preset's name always means the
// preset; ./small is a file.
func (b *Builder) Config(name string) {
	isPath := strings.ContainsAny(name, `/\`) || strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml")
	switch {
	case IsPreset(name):
		b.Preset(name)
	case isPath || exists(name):
		b.File(name)
	default:
		b.Preset(name) // reports that there is no such preset
	}
}
