package corpus

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// liar is a server of one file whose behaviour depends on the number of the
// request.
type liar struct {
	mu       sync.Mutex // of requests and ranges
	content  []byte
	tag      string
	requests int
	ranges   []string
	behave   func(n int, w http.ResponseWriter, r *http.Request) (handled bool)
}

func (l *liar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	l.requests++
	n := l.requests
	l.ranges = append(l.ranges, r.Header.Get("Range"))
	l.mu.Unlock()
	if l.behave != nil && l.behave(n, w, r) {
		return
	}
	w.Header().Set("ETag", l.tag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(l.content))
}

// drop sends the head of a whole answer and breaks the connection.
func (l *liar) drop(w http.ResponseWriter, n int) bool {
	w.Header().Set("ETag", l.tag)
	w.Header().Set("Content-Length", strconv.Itoa(len(l.content)))
	w.Write(l.content[:n])
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

func fetcher(t *testing.T, l *liar) (*Downloader, string) {
	t.Helper()
	server := httptest.NewServer(l)
	t.Cleanup(server.Close)
	return &Downloader{Dir: t.TempDir(), attempts: 5, pause: time.Millisecond, stall: 5 * time.Second}, server.URL + "/data.txt"
}

func sumOf(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

func TestDownload(t *testing.T) {
	content := bytes.Repeat([]byte("koala text\n"), 50_000)
	other := bytes.ReplaceAll(content, []byte("koala"), []byte("panda"))
	for name, c := range map[string]struct {
		behave   func(l *liar) func(n int, w http.ResponseWriter, r *http.Request) bool
		requests int
		ranges   []string
		want     string // of the error; "" is success
	}{
		"honest": {nil, 1, []string{""}, ""},
		"drops twice": {func(l *liar) func(int, http.ResponseWriter, *http.Request) bool {
			return func(n int, w http.ResponseWriter, r *http.Request) bool {
				if n == 1 {
					return l.drop(w, 100_000)
				}
				if n == 2 { // part of the range that was asked for
					w.Header().Set("ETag", l.tag)
					w.Header().Set("Content-Range", fmt.Sprintf("bytes 100000-%d/%d", len(content)-1, len(content)))
					w.Header().Set("Content-Length", strconv.Itoa(len(content)-100_000))
					w.WriteHeader(http.StatusPartialContent)
					w.Write(content[100_000:200_000])
					w.(http.Flusher).Flush()
					panic(http.ErrAbortHandler)
				}
				return false
			}
		}, 3, []string{"", "bytes=100000-", "bytes=200000-"}, ""},
		"always drops": {func(l *liar) func(int, http.ResponseWriter, *http.Request) bool {
			return func(n int, w http.ResponseWriter, r *http.Request) bool { return l.drop(w, 10) }
		}, 5, nil, "unexpected EOF"},
		"knows no ranges": {func(l *liar) func(int, http.ResponseWriter, *http.Request) bool {
			return func(n int, w http.ResponseWriter, r *http.Request) bool {
				if n == 1 {
					return l.drop(w, 100_000)
				}
				w.Write(content)
				return true
			}
		}, 2, nil, ""},
		"changes the file": {func(l *liar) func(int, http.ResponseWriter, *http.Request) bool {
			return func(n int, w http.ResponseWriter, r *http.Request) bool {
				if n == 1 {
					l.tag, l.content = `"old"`, other
					return l.drop(w, 100_000)
				}
				l.tag, l.content = `"new"`, content
				return false
			}
		}, 2, nil, ""},
		"sends another range": {func(l *liar) func(int, http.ResponseWriter, *http.Request) bool {
			return func(n int, w http.ResponseWriter, r *http.Request) bool {
				if n == 1 {
					return l.drop(w, 100_000)
				}
				if n == 2 {
					w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-9/%d", len(content)))
					w.WriteHeader(http.StatusPartialContent)
					w.Write(content[:10])
					return true
				}
				return false
			}
		}, 3, []string{"", "bytes=100000-", ""}, ""},
		"sends another file": {func(l *liar) func(int, http.ResponseWriter, *http.Request) bool {
			l.content = other
			return nil
		}, 1, nil, "wrong checksum"},
		"sends less": {func(l *liar) func(int, http.ResponseWriter, *http.Request) bool {
			l.content = content[:1000]
			return nil
		}, 1, nil, "wrong checksum"},
		"has no such file": {func(l *liar) func(int, http.ResponseWriter, *http.Request) bool {
			return func(n int, w http.ResponseWriter, r *http.Request) bool {
				http.NotFound(w, r)
				return true
			}
		}, 1, nil, "404"},
		"is busy": {func(l *liar) func(int, http.ResponseWriter, *http.Request) bool {
			return func(n int, w http.ResponseWriter, r *http.Request) bool {
				if n < 3 {
					http.Error(w, "busy", http.StatusServiceUnavailable)
				}
				return n < 3
			}
		}, 3, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := &liar{content: content, tag: `"one"`}
			d, url := fetcher(t, l)
			if c.behave != nil {
				l.behave = c.behave(l)
			}
			path, sum, err := d.fetch(context.Background(), url, sumOf(content), "data.txt")
			if l.requests != c.requests {
				t.Errorf("%d requests, want %d", l.requests, c.requests)
			}
			if c.ranges != nil {
				if diff := cmp.Diff(c.ranges, l.ranges); diff != "" {
					t.Errorf("ranges (-want +got):\n%s", diff)
				}
			}
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
					t.Errorf("error is %v, want one with %q", err, c.want)
				}
				if found, _ := filepath.Glob(filepath.Join(d.Dir, "*data.txt")); len(found) > 0 {
					t.Error("there is a file all the same")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(got, content) || sum != sumOf(content) {
				t.Errorf("the file has %d bytes and sum %.8s, %v", len(got), sum, err)
			}
			// The second time it is in the cache.
			if _, _, err := d.fetch(context.Background(), url, sumOf(content), "data.txt"); err != nil || l.requests != c.requests {
				t.Errorf("again: %d requests, %v", l.requests, err)
			}
			if err := os.WriteFile(path, []byte("damaged"), 0o644); err != nil {
				t.Fatal(err)
			}
			l.behave = nil
			if _, _, err := d.fetch(context.Background(), url, sumOf(content), "data.txt"); err != nil || l.requests != c.requests+1 {
				t.Errorf("damaged in the cache: %d requests, %v", l.requests, err)
			}
		})
	}
}

func TestDownloadStalls(t *testing.T) {
	release := make(chan struct{})
	l := &liar{content: []byte("x"), tag: `"one"`}
	d, url := fetcher(t, l)
	l.behave = func(int, http.ResponseWriter, *http.Request) bool { <-release; return true }
	defer close(release)
	d.stall, d.attempts = 20*time.Millisecond, 2
	if _, _, err := d.fetch(context.Background(), url, "", "data.txt"); err == nil || !strings.Contains(err.Error(), "no answer") {
		t.Errorf("error is %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := d.fetch(ctx, url, "", "data.txt"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// A corpus of the user's list, whose rows are lines of one text, without
// checksums.
func TestNamedDownload(t *testing.T) {
	files := map[string][]byte{
		"/train.parquet":  parquetFile(t, "", " = Title = \n", "", " A line .\n"),
		"/valid.txt":      []byte("a line .\n"),
		"/test/valid.txt": []byte("another line .\n"), // of the same name
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(files[r.URL.Path]) }))
	defer server.Close()
	config := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", config)
	put(t, config, "koala-lm/corpora.yaml", fmt.Appendf(nil, `
mine:
  rows: lines
  files:
    - {url: %[1]s/train.parquet, split: train}
    - {url: %[1]s/valid.txt, split: valid, sha256: %[2]s}
    - {url: %[1]s/test/valid.txt, split: test, sha256: %[3]s}
`, server.URL, sumOf(files["/valid.txt"]), sumOf(files["/test/valid.txt"])))
	opts := NamedOptions{Cache: t.TempDir()}
	_, err := Named(context.Background(), "mine", opts)
	sum := sumOf(files["/train.parquet"])
	if err == nil || !strings.Contains(err.Error(), "--sha256 "+sum+" (train.parquet)") || strings.Contains(err.Error(), "valid.txt") {
		t.Fatalf("without a sum: %v", err)
	}
	opts.Sums = []string{sum}
	plan, err := Named(context.Background(), "mine", opts)
	if err != nil {
		t.Fatal(err)
	}
	r := new(recorder)
	info, err := plan.Splits["train"][0].Read(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"\n = Title = \n\n A line .\n"}, r.texts); diff != "" {
		t.Errorf("documents (-want +got):\n%s", diff)
	}
	if info.Path != server.URL+"/train.parquet" || info.SHA256 != sum {
		t.Errorf("source is %+v", info)
	}
	// A mirror, by its address or as a folder, has the files below their hosts.
	host := strings.TrimPrefix(server.URL, "http://")
	mirror := httptest.NewServer(http.StripPrefix("/files/"+host, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(files[r.URL.Path]) })))
	defer mirror.Close()
	folder := t.TempDir()
	for name, content := range files {
		put(t, folder, host+name, content)
	}
	for _, at := range []string{mirror.URL + "/files/", folder} {
		t.Run(at, func(t *testing.T) {
			t.Setenv("KOALA_LM_MIRROR", at)
			if _, err := Named(context.Background(), "mine", NamedOptions{Cache: t.TempDir(), Sums: opts.Sums}); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("an altered file", func(t *testing.T) {
		t.Setenv("KOALA_LM_MIRROR", folder)
		put(t, folder, host+"/valid.txt", []byte("evil"))
		if _, err := Named(context.Background(), "mine", opts); !errors.Is(err, errSum) {
			t.Errorf("%v", err)
		}
	})
	// Two files of one name have different places in the cache.
	server.Close()
	if _, err := Named(context.Background(), "mine", opts); err != nil {
		t.Errorf("from the cache: %v", err)
	}
	if _, err := Named(context.Background(), "nobodys", opts); err == nil || !strings.Contains(err.Error(), "mine") {
		t.Errorf("an unknown name: %v", err)
	}
}

func TestList(t *testing.T) {
	if _, err := parseList(builtinList); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]struct{ content, want string }{
		"key":    {"x:\n  fils: []\n", "line 2: field fils not found; an entry has"},
		"kind":   {"x: 3\n", "line 1: "},
		"empty":  {"x:\n  files: []\n", "x: there is no file of split train"},
		"url":    {"x:\n  files:\n    - {url: 'file:///etc/passwd', split: train}\n", "file:///etc/passwd"},
		"no url": {"x:\n  files:\n    - {split: train}\n", "want an http"},
		"name":   {"x:\n  files:\n    - {url: 'http://h/..', split: train}\n", "name of a file"},
		"split":  {"x:\n  files:\n    - {url: 'http://h/a', split: tran}\n", `"tran"`},
		"sum":    {"x:\n  files:\n    - {url: 'http://h/a', split: train, sha256: abc}\n", `"abc"`},
		"rows":   {"x:\n  rows: columns\n  files:\n    - {url: 'http://h/a', split: train}\n", `"columns"`},
	} {
		if _, err := parseList([]byte(c.content)); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "corpus.") {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
	}
}
