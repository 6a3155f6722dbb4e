package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// What koala-lm-engine is built on. The command links neither, so that its
// build information does not know them; a test holds gotchVersion to go.mod.
const (
	gotchVersion    = "v0.9.1"
	libtorchVersion = "2.11.0"
)

// versionInfo is what `koala-lm version --format json` prints.
type versionInfo struct {
	KoalaLM  string `json:"koala_lm"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Gotch    string `json:"gotch"`
	Libtorch string `json:"libtorch"`
}

type versionOptions struct {
	app    *app
	format string
}

func newVersionCmd(a *app) *cobra.Command {
	opts := &versionOptions{app: a}
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the versions of koala-lm and of what it stands on",
		Example: `  koala-lm version
  koala-lm version --format json`,
		RunE: func(*cobra.Command, []string) error { return runVersion(opts) },
	}
	addFormatFlag(cmd, &opts.format, "text", "json")
	return cmd
}

func runVersion(opts *versionOptions) error {
	v := versionInfo{
		KoalaLM:  ownVersion(),
		Go:       runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Gotch:    gotchVersion,
		Libtorch: libtorchVersion,
	}
	out := opts.app.io.Out
	if opts.format == "json" {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	fmt.Fprintf(out, "koala-lm  %s\n", v.KoalaLM)
	fmt.Fprintf(out, "go        %s %s\n", strings.TrimPrefix(v.Go, "go"), v.Platform)
	fmt.Fprintf(out, "gotch     %s\n", v.Gotch)
	fmt.Fprintf(out, "libtorch  %s\n", v.Libtorch)
	return nil
}

// ownVersion is the module's version where it was installed as a module, else
// the commit it was built from.
func ownVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	revision, modified := "", false
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value
		case "vcs.modified":
			modified = s.Value == "true"
		}
	}
	if revision == "" {
		return "devel"
	}
	version := "devel " + revision[:min(12, len(revision))]
	if modified {
		version += ", modified"
	}
	return version
}
