package corpus

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"github.com/koala-lm/koala-lm/data"
)

// Godoc is the English documentation in the source of the installed Go standard
// library and commands: the text of the comments, one document a file and one
// line a paragraph, without licences, directives and lines of code. It needs no
// download and changes with Go's version.
type Godoc struct {
	Root    string // GOROOT
	Version string // Go's version, from the file VERSION
	Apart   bool   // put spaces between words and punctuation, as in WikiText

	progress func(int64)
}

// FindGodoc finds the Go installation: $GOROOT, or the go command's.
func FindGodoc() (*Godoc, error) {
	root := os.Getenv("GOROOT")
	if root == "" {
		if out, err := exec.Command("go", "env", "GOROOT").Output(); err == nil {
			root = strings.TrimSpace(string(out))
		}
	}
	if root == "" {
		return nil, errors.New("corpus godoc: no Go installation found: put the go command on PATH or set GOROOT")
	}
	if _, err := os.Stat(filepath.Join(root, "src", "fmt", "doc.go")); err != nil {
		return nil, fmt.Errorf("corpus godoc: the Go installation at %s has no source of the standard library", root)
	}
	version, err := os.ReadFile(filepath.Join(root, "VERSION"))
	if err != nil {
		return nil, fmt.Errorf("corpus godoc: %w", err)
	}
	first, _, _ := strings.Cut(string(version), "\n")
	return &Godoc{Root: root, Version: strings.TrimSpace(first)}, nil
}

// Size is -1: it is not known before the source is read.
func (g *Godoc) Size() int64 { return -1 }

// Read extracts the documentation of all files, in the order of their paths.
func (g *Godoc) Read(ctx context.Context, sink Sink) (data.SourceInfo, error) {
	files, err := g.files()
	if err != nil {
		return data.SourceInfo{}, err
	}
	// Files are read in parallel and written in order.
	texts := make([]chan extracted, len(files))
	for i := range texts {
		texts[i] = make(chan extracted, 1)
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	ahead := make(chan struct{}, 64)
	next := make(chan int)
	wg.Go(func() {
		defer close(next)
		for i := range files {
			select {
			case ahead <- struct{}{}:
			case <-ctx.Done():
				return
			}
			next <- i
		}
	})
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range next {
				text, err := g.fileText(files[i])
				texts[i] <- extracted{text, err}
			}
		})
	}
	sum := sha256.New()
	info := data.SourceInfo{Path: "godoc " + g.Version}
	for i, path := range files {
		select {
		case <-ctx.Done():
			return info, ctx.Err()
		case got := <-texts[i]:
			<-ahead
			if got.err != nil {
				return info, fmt.Errorf("corpus godoc: %w", got.err)
			}
			sum.Write(got.text)
			info.Bytes += int64(len(got.text))
			if g.progress != nil {
				g.progress(int64(len(got.text)))
			}
			if err := document(sink, path, got.text); err != nil {
				return info, err
			}
		}
	}
	info.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return info, nil
}

type extracted struct {
	text []byte
	err  error
}

// files returns the paths of all Go files, in their order.
func (g *Godoc) files() ([]string, error) {
	var files []string
	err := filepath.WalkDir(filepath.Join(g.Root, "src"), func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && entry.Name() == "testdata":
			return filepath.SkipDir
		case !entry.IsDir() && strings.HasSuffix(path, ".go"):
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("corpus godoc: %w", err)
	}
	return files, nil
}

// fileText returns the text of a file's comments.
func (g *Godoc) fileText(path string) ([]byte, error) {
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	text := appendComments(nil, src)
	if g.Apart {
		text = setApart(text)
	}
	return text, nil
}
