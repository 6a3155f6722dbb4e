package configs

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write README.md from the table of settings")

// README.md is made from the table and the presets, by go test ./configs -update.
func TestReadme(t *testing.T) {
	want := readme()
	if *update {
		if err := os.WriteFile("README.md", []byte(want), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("README.md is not what the table says: run go test ./configs -update")
	}
}

func readme() string {
	var b strings.Builder
	b.WriteString(`# Settings and presets

` + "`koala-lm train`" + ` takes its settings from defaults, presets and files (` + "`--config`" + `), ` + "`--set key=value`" + ` and
flags, later over earlier. Files are YAML; sections nest, or keys are dotted. ` + "`base: PRESET`" + ` at the top of a
file puts it on a preset. What is tuned for one kind of optimizer or model is dropped where a later source
changes the kind.

## Settings

A default comes first for all kinds, then for the kinds of model, optimizer or schedule that have another one; in
parentheses, for a family of models among those.

| setting | default | must be | what it is |
| --- | --- | --- | --- |
`)
	cell := strings.NewReplacer("|", `\|`, "*", `\*`, "_", `\_`)
	for _, e := range Reference() {
		meaning := e.Meaning
		if e.For != "" {
			meaning += " (only for " + e.For + ")"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", e.Key, cell.Replace(e.Default), cell.Replace(e.Allowed), cell.Replace(meaning))
	}
	b.WriteString("\n## Presets\n\n| preset | what it is |\n| --- | --- |\n")
	for _, p := range Presets() {
		fmt.Fprintf(&b, "| [`%s`](presets/%s.yaml) | %s |\n", p.Name, p.Name, cell.Replace(p.About))
	}
	return b.String()
}
