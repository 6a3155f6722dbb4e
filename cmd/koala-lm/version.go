package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/koala-lm/koala-lm/cmd/internal/request"
)

// The libraries of koala-lm-engine. The command links neither, so its build
// information lacks them; a test compares gotchVersion with go.mod.
const (
	gotchVersion    = "v0.9.1"
	libtorchVersion = "2.11.0"
)

// versionInfo is the output of `koala-lm version --format json`.
type versionInfo struct {
	KoalaLM  string            `json:"koala_lm"`
	Go       string            `json:"go"`
	Platform string            `json:"platform"`
	Gotch    string            `json:"gotch"`
	Libtorch string            `json:"libtorch"`         // the required version
	Engine   *request.Versions `json:"engine,omitempty"` // versions that the engine reports; absent without an engine
	Problem  string            `json:"engine_problem,omitempty"`
}

type versionOptions struct {
	app    *app
	format string
}

func newVersionCmd(a *app) *cobra.Command {
	opts := &versionOptions{app: a}
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the versions of koala-lm and its libraries",
		Long: `Print the versions of koala-lm, Go, gotch and libtorch. If koala-lm-engine is
built, it reports the libtorch that it loads, the CPU's instruction sets that
libtorch uses, and the devices.`,
		Example: `  koala-lm version
  koala-lm version --format json`,
		RunE: func(cmd *cobra.Command, _ []string) error { return runVersion(cmd.Context(), opts) },
	}
	addFormatFlag(cmd, &opts.format, "text", "json")
	return cmd
}

func runVersion(ctx context.Context, opts *versionOptions) error {
	v := versionInfo{
		KoalaLM:  ownVersion(),
		Go:       runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Gotch:    gotchVersion,
		Libtorch: libtorchVersion,
	}
	engine, err := engineVersions(ctx)
	if err != nil {
		v.Problem = err.Error()
	}
	v.Engine = engine
	out := opts.app.io.Out
	if opts.format == "json" {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	fmt.Fprintf(out, "koala-lm  %s\n", v.KoalaLM)
	fmt.Fprintf(out, "go        %s %s\n", strings.TrimPrefix(v.Go, "go"), v.Platform)
	fmt.Fprintf(out, "gotch     %s\n", v.Gotch)
	if engine == nil {
		fmt.Fprintf(out, "libtorch  %s\n", v.Libtorch)
		fmt.Fprintf(out, "engine    %s\n", v.Problem)
		return nil
	}
	fmt.Fprintf(out, "libtorch  %s\n", engine.Libtorch)
	fmt.Fprintf(out, "engine    %s\n", engine.Build)
	fmt.Fprintf(out, "cpu       %s\n", engine.CPU)
	fmt.Fprintf(out, "kernels   x86-64 %s\n", engine.Kernels)
	for _, device := range engine.Devices {
		fmt.Fprintf(out, "device    %s\n", device)
	}
	return nil
}

// engineVersions asks the engine, which loads libtorch to answer.
func engineVersions(ctx context.Context) (*request.Versions, error) {
	path, err := request.FindEngine()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	output, err := exec.CommandContext(ctx, path, "version").Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		said, _, _ := strings.Cut(strings.TrimSpace(string(exit.Stderr)), "\n")
		return nil, fmt.Errorf("%s: %v: %s", path, err, said)
	} else if err != nil {
		return nil, err
	}
	var v request.Versions
	if err := json.Unmarshal(output, &v); err != nil {
		return nil, fmt.Errorf("%s version: %w", path, err)
	}
	return &v, nil
}

// ownVersion is the module's version if koala-lm was installed as a module, else the
// commit of the build.
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
