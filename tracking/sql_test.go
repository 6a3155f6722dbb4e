package tracking

import (
	"os"
	"strings"
	"testing"
)

// Every statement is used, and every file is one.
func TestEveryStatementIsEmbedded(t *testing.T) {
	source, err := os.ReadFile("sql.go")
	if err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir("sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !strings.Contains(string(source), "//go:embed sql/"+file.Name()+"\n") {
			t.Errorf("sql/%s is not embedded", file.Name())
		}
	}
}
