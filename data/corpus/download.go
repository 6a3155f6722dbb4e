package corpus

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	neturl "net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/koala-lm/koala-lm/internal/atomicfile"
	"github.com/koala-lm/koala-lm/internal/checksum"
)

// A Downloader fetches files into a cache folder. An interrupted download resumes
// if the server still has the same file.
type Downloader struct {
	Dir      string       // the cache folder
	Client   *http.Client // default: one with sensible time limits
	Stage    func(name string, total int64)
	Progress func(int64)

	attempts int           // default 5
	pause    time.Duration // before the second attempt, doubled each time; default 1 s
	stall    time.Duration // an attempt fails after this time without a byte; default 30 s
}

// errSum is a file whose checksum is not the expected one.
var errSum = errors.New("wrong checksum")

// fetch returns the path and the SHA-256 of the file at url. If want is not "", a
// file with another checksum is removed and is an error.
//
// KOALA_LM_MIRROR names a folder or an address that is asked in place of the network.
// A file lies there below the host and the path of its url, as wget -x stores it.
func (d *Downloader) fetch(ctx context.Context, url, want, name string) (path, sum string, err error) {
	if mirror := os.Getenv("KOALA_LM_MIRROR"); mirror != "" {
		from, err := neturl.Parse(url)
		if err != nil {
			return "", "", err
		}
		if !strings.Contains(mirror, "://") {
			path = filepath.Join(mirror, from.Host, filepath.FromSlash(from.Path))
			if sum, err = checksum.SHA256(path); err == nil && want != "" && sum != want {
				err = fmt.Errorf("%s: %w: it is %s, want %s", path, errSum, sum, want)
			}
			if err != nil {
				err = fmt.Errorf("KOALA_LM_MIRROR: %w", err)
			}
			return path, sum, err
		}
		url = strings.TrimSuffix(mirror, "/") + "/" + from.Host + from.Path
	}
	if err := os.MkdirAll(d.Dir, 0o755); err != nil {
		return "", "", err
	}
	path = filepath.Join(d.Dir, cacheName(url, name))
	unlock, err := lockFile(path + ".lock")
	if err != nil {
		return "", "", err
	}
	defer unlock()
	if sum, err := checksum.SHA256(path); err == nil && (want == "" || sum == want) {
		return path, sum, nil
	}
	part := path + ".part"
	if err := d.download(ctx, url, part, name); err != nil {
		return "", "", fmt.Errorf("download %s: %w", url, err)
	}
	sum, err = checksum.SHA256(part)
	if err != nil {
		return "", "", err
	}
	if want != "" && sum != want {
		err := fmt.Errorf("download %s: %w: it is %s, want %s; the file was removed", url, errSum, sum, want)
		return "", "", errors.Join(err, removeAll(part, part+".json"))
	}
	if err := commit(part, path); err != nil {
		return "", "", err
	}
	return path, sum, nil
}

// cacheName returns a file's name in the cache. It depends on the whole address:
// different addresses may end in the same name, and a catalog may change a file's
// address.
func cacheName(url, name string) string {
	sum := sha256.Sum256([]byte(url))
	return hex.EncodeToString(sum[:4]) + "-" + name
}

// commit moves a complete download to its place in the cache.
func commit(part, path string) error {
	f, err := os.Open(part)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(part, path); err != nil {
		return err
	}
	return errors.Join(atomicfile.SyncFolder(filepath.Dir(path)), removeAll(part+".json"))
}

func (d *Downloader) download(ctx context.Context, url, part, name string) (err error) {
	attempts, pause := max(1, d.attempts), d.pause
	if d.attempts == 0 {
		attempts, pause = 5, time.Second
	}
	for ; attempts > 0; attempts-- {
		var again bool
		again, err = d.attempt(ctx, url, part, name)
		if err == nil || !again || attempts == 1 {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
			pause *= 2
		}
	}
	return err
}

// attempt downloads the missing part of a file. again reports whether another
// attempt may succeed.
func (d *Downloader) attempt(ctx context.Context, url, part, name string) (again bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := d.stall
	if stall == 0 {
		stall = 30 * time.Second
	}
	watchdog := time.AfterFunc(stall, func() { cancel(fmt.Errorf("no answer for %v", stall)) })
	defer watchdog.Stop()

	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false, err
	}
	// A range counts bytes of the response, which compression would change.
	request.Header.Set("Accept-Encoding", "identity")
	had, have := resumable(part, url)
	if have > 0 {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
		request.Header.Set("If-Range", had.Mark)
	}
	client := d.Client
	if client == nil {
		client = http.DefaultClient
	}
	response, err := client.Do(request)
	if err != nil {
		var wrapped *neturl.Error // names the address, as our caller does
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		var dns *net.DNSError
		return !errors.As(err, &dns) || !dns.IsNotFound, cause(ctx, err)
	}
	defer response.Body.Close()
	from, total, again, err := placeOf(response, have, had.Size)
	if err != nil {
		return again, errors.Join(err, removeAllIf(from < 0, part, part+".json"))
	}
	if err := remember(part, version{url, markOf(response), total}, from > 0); err != nil {
		return false, err
	}
	if d.Stage != nil && from == 0 {
		d.Stage("download "+name, total)
	}
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return false, err
	}
	defer f.Close()
	if err := f.Truncate(from); err != nil {
		return false, err
	}
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return false, err
	}
	return d.copy(ctx, f, response.Body, from, total, func() { watchdog.Reset(stall) })
}

// copy writes the body to the file and checks that it is complete.
func (d *Downloader) copy(ctx context.Context, f *os.File, body io.Reader, from, total int64, alive func()) (again bool, err error) {
	buffer := make([]byte, 1<<16)
	for n := from; ; {
		read, err := body.Read(buffer)
		alive()
		if _, err := f.Write(buffer[:read]); err != nil {
			return false, err
		}
		n += int64(read)
		if d.Progress != nil {
			d.Progress(int64(read))
		}
		switch {
		case err == io.EOF && total >= 0 && n != total:
			return true, fmt.Errorf("the server sent %d of %d bytes", n, total)
		case err == io.EOF:
			return false, nil
		case err != nil:
			return true, cause(ctx, err)
		case total >= 0 && n > total:
			return true, errors.Join(fmt.Errorf("the server sent more than the %d bytes it announced", total), f.Truncate(0))
		}
	}
}

// cause returns the reason why the context ended, or err if it did not end.
func cause(ctx context.Context, err error) error {
	if why := context.Cause(ctx); why != nil {
		return why
	}
	return err
}

func removeAll(paths ...string) error {
	var errs []error
	for _, path := range paths {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func removeAllIf(condition bool, paths ...string) error {
	if !condition {
		return nil
	}
	return removeAll(paths...)
}

// lockFile waits for the lock of a download, so that two commands do not
// write one file.
func lockFile(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return func() { f.Close() }, nil
}
