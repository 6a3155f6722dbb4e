// Package page makes an HTML page of runs: a sortable table, interactive curves,
// settings, environments and samples. As a file, the page is self-contained and loads
// nothing; served, it follows the store.
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
	//go:embed live.js
	live string
)

// Write writes the page around data, the value that script.js reads.
//
// Users choose the names in the data freely. encoding/json escapes <, > and &, so
// that no text can end the element that holds it; the script adds text to the page as
// text only; and the page's policy allows only its own scripts, by their hashes.
func Write(w io.Writer, data any) error { return write(w, data, "", "", "") }

// WriteLive writes the page as a server sends it: it asks the same server for
// changes.
func WriteLive(w io.Writer, data any) error {
	return write(w, data, " "+hashOf(live), "; connect-src 'self'", "<script>"+live+"</script>")
}

func write(w io.Writer, data any, moreHashes, connect, liveScript string) error {
	text, err := json.Marshal(data)
	if err != nil {
		return err
	}
	parts := strings.NewReplacer(
		"{{script-hashes}}", hashOf(script)+moreHashes,
		"{{connect}}", connect,
		"{{style}}", style,
		"{{data}}", string(text),
		"{{script}}", script,
		"{{live}}", liveScript,
	)
	_, err = parts.WriteString(w, document)
	return err
}

func hashOf(script string) string {
	hash := sha256.Sum256([]byte(script))
	return "'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) + "'"
}
