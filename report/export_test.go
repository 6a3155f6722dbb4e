package report

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/csv"
	"encoding/json"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/koala-lm/koala-lm/tracking"
	"github.com/koala-lm/koala-lm/tracking/storetest"
)

func TestExportLines(t *testing.T) {
	s := filled(t)
	runs := allRuns(t, s)
	var b bytes.Buffer
	if err := ExportCSV(context.Background(), &b, s, runs, []string{"train_ppl", "val_ppl"}); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&b).ReadAll()
	const points = 8*20 + 3*200 + 250 + 8*1 + 3*4 + 5
	if err != nil || len(rows) != 1+points {
		t.Errorf("%d rows, want %d (%v)", len(rows), 1+points, err)
	}
	b.Reset()
	if err := ExportJSONLines(context.Background(), &b, s, runs, nil); err != nil {
		t.Fatal(err)
	}
	lines, named := 0, map[string]bool{}
	for line := range bytes.Lines(b.Bytes()) {
		var point ExportPoint
		if err := json.Unmarshal(line, &point); err != nil {
			t.Fatal(err)
		}
		lines++
		named[point.Name] = true
	}
	for _, name := range storetest.DangerousNames {
		if !named[name] {
			t.Errorf("%q is missing", name)
		}
	}
	if lines < 5*points/2 {
		t.Errorf("%d lines", lines)
	}
}

// The test checks lengths and checksums, as TensorBoard does.
// Whatever the ids in a store, an export stays in its folder.
func TestExportNamesAreInTheFolder(t *testing.T) {
	for _, id := range []string{"../../x", "..", "/etc", "a/b", "01m8b53nfp6r2h1bkm9zjbxm9e"} {
		for _, name := range []string{"", "..", "a", "../y"} {
			if got := fileName(tracking.RunSummary{ID: id, Name: name}); got == "" || !filepath.IsLocal(got) || got == "." || strings.ContainsAny(got, "/\\") {
				t.Errorf("id %q, name %q: %q", id, name, got)
			}
		}
	}
}

func TestExportTensorBoard(t *testing.T) {
	s := filled(t)
	folder := t.TempDir()
	if err := ExportTensorBoard(context.Background(), folder, s, allRuns(t, s), nil); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(folder, "*", "events.out.tfevents.*"))
	if err != nil || len(files) != 12 {
		t.Fatalf("%d files (%v)", len(files), err)
	}
	masked := func(b []byte) uint32 {
		crc := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
		return (crc>>15 | crc<<17) + 0xa282ead8
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		records := 0
		for len(content) > 0 {
			length := binary.LittleEndian.Uint64(content)
			data := content[12 : 12+length]
			if binary.LittleEndian.Uint32(content[8:]) != masked(content[:8]) || binary.LittleEndian.Uint32(content[12+length:]) != masked(data) {
				t.Fatalf("%s: record %d has a wrong checksum", file, records)
			}
			if records == 0 && !bytes.Contains(data, []byte("brain.Event:2")) {
				t.Errorf("%s begins with %q", file, data)
			}
			content = content[16+length:]
			records++
		}
		if records < 20*5 {
			t.Errorf("%s has %d records", file, records)
		}
	}
	if outside, _ := filepath.Glob(filepath.Join(folder, "..", "passwd*")); len(outside) != 0 {
		t.Errorf("written outside: %v", outside)
	}
	for _, file := range files {
		if name := filepath.Base(filepath.Dir(file)); strings.ContainsAny(name, "/\\ \n'\"<>|") {
			t.Errorf("folder %q", name)
		}
	}
}

// A spreadsheet runs a text that begins like a formula.
func TestCSVRunsNoFormula(t *testing.T) {
	table := Table{Columns: []Column{{Name: "name"}, {Name: "value"}}}
	for _, name := range []string{"=SUM(A1:A9)", "+1", "-1+2", "@x", "\t=1", "a=1", ""} {
		table.Rows = append(table.Rows, []any{name, -1.5})
	}
	want := "name,value\n'=SUM(A1:A9),-1.5\n'+1,-1.5\n'-1+2,-1.5\n'@x,-1.5\n'\t=1,-1.5\na=1,-1.5\n,-1.5\n"
	if got := written(t, Output{Format: CSV}, func(o Output) error { return o.Render(table) }); got != want {
		t.Errorf("%q\nwant %q", got, want)
	}
}
