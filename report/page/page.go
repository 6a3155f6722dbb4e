// Package page makes one HTML file of runs: a sortable table, interactive
// curves, settings, environments and samples. The file needs nothing beside it
// and loads nothing.
package page

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"io"
	"strings"
)

var (
	//go:embed page.html
	document string
	//go:embed style.css
	style string
	//go:embed script.js
	script string
)

// Write writes the page around data, the value that script.js reads.
//
// Names in the data are not ours. encoding/json writes <, > and & as escapes, so
// that no text of a run can end the element it stands in; the script puts text on
// the page as text only; and the page's policy allows no script but this one, by
// its hash.
func Write(w io.Writer, data any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return err
	}
	hash := sha256.Sum256([]byte(script))
	parts := strings.NewReplacer(
		"{{script-hash}}", "sha256-"+base64.StdEncoding.EncodeToString(hash[:]),
		"{{style}}", style,
		"{{data}}", string(text),
		"{{script}}", script,
	)
	_, err = parts.WriteString(w, document)
	return err
}
