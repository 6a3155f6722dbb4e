// Command setup prepares the dependencies that `go build` cannot fetch: libtorch,
// and a changed copy of gotch linked against it. Both go into a per-user cache
// folder that all checkouts share. The checkout itself gets one generated file,
// go.work.
//
// make runs it with GOWORK=off, because go.work names folders that exist only
// afterwards:
//
//	GOWORK=off go run ./internal/setup [-cuda] [-cache DIR] [-libtorch DIR]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stderr)
	switch {
	case err == nil:
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "setup: interrupted; run it again to continue")
		os.Exit(130)
	default:
		fmt.Fprintln(os.Stderr, "setup:", err)
		os.Exit(1)
	}
}

// run does the whole set-up. It writes progress to w.
func run(ctx context.Context, args []string, w io.Writer) error {
	fs := flag.NewFlagSet("setup", flag.ContinueOnError)
	cuda := fs.Bool("cuda", false, "also fetch the CUDA libraries that libtorch_cuda needs")
	cacheDir := fs.String("cache", os.Getenv("KOALA_LM_CACHE"), "cache folder (default: KOALA_LM_CACHE, or koala-lm in the user's cache folder)")
	libtorch := fs.String("libtorch", os.Getenv("LIBTORCH"), "an installed libtorch 2.11 or PyTorch 2.11 to use instead of fetching one (default: LIBTORCH)")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if err := checkTools(); err != nil {
		return err
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	cache, err := openCache(*cacheDir, w)
	if err != nil {
		return err
	}
	var torch string
	if *libtorch != "" {
		if torch, err = locateLibtorch(*libtorch); err != nil {
			return fmt.Errorf("LIBTORCH=%s: %w", *libtorch, err)
		}
		if *cuda {
			return errors.New("LIBTORCH is set: its own installation brings the CUDA libraries; unset it to fetch them")
		}
	} else {
		if torch, err = fetchLibtorch(ctx, cache); err != nil {
			return err
		}
		if *cuda {
			if err := fetchCUDA(ctx, cache, torch); err != nil {
				return err
			}
		}
	}
	gotch, err := prepareGotch(ctx, cache, root, torch)
	if err != nil {
		return err
	}
	native, err := buildNative(ctx, cache, root, torch)
	if err != nil {
		return err
	}
	if err := writeLinkFile(root, native); err != nil {
		return err
	}
	return writeGoWork(root, gotch)
}

// moduleRoot returns the closest folder above the working folder that has a
// go.mod.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("no go.mod here or above: run it inside the checkout")
		}
		dir = up
	}
}
