package corpus

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
)

// The downloaded part of a file is kept next to its place in the cache, together
// with the server's version of the file, which a resumed download needs.

// version identifies the file on the server, to detect that it has changed.
type version struct {
	URL  string `json:"url"`
	Mark string `json:"mark"` // a strong ETag, or the time of the last change
	Size int64  `json:"size"` // -1 if unknown
}

// placeOf reads the body's offset in the file and the file's length from the
// header; a length that is not given is -1. An error with from < 0 means that
// the downloaded part is useless.
func placeOf(response *http.Response, have, size int64) (from, total int64, again bool, err error) {
	switch response.StatusCode {
	case http.StatusOK: // the whole file, even if a range was requested
		return 0, response.ContentLength, false, nil
	case http.StatusPartialContent:
		var first, last int64
		header := response.Header.Get("Content-Range")
		if _, err := fmt.Sscanf(header, "bytes %d-%d/%d", &first, &last, &total); err != nil || first != have || last != total-1 || size >= 0 && total != size {
			return -1, 0, true, fmt.Errorf("the server sent the range %q, expected one from %d on", header, have)
		}
		return have, total, false, nil
	case http.StatusRequestedRangeNotSatisfiable:
		return -1, 0, true, errors.New("the server has no such range")
	case http.StatusTooManyRequests, http.StatusRequestTimeout:
		return 0, 0, true, errors.New(response.Status)
	}
	return 0, 0, response.StatusCode >= 500, fmt.Errorf("the server answers %s", response.Status)
}

// markOf returns a strong ETag or the time of the last change, or "".
func markOf(response *http.Response) string {
	if tag := response.Header.Get("ETag"); tag != "" && !strings.HasPrefix(tag, "W/") {
		return tag
	}
	return response.Header.Get("Last-Modified")
}

// resumable returns the version and the size of a partial download that can be
// resumed.
func resumable(part, url string) (version, int64) {
	var had version
	content, err := os.ReadFile(part + ".json")
	if err != nil || json.Unmarshal(content, &had) != nil || had.URL != url || had.Mark == "" {
		return version{Size: -1}, 0
	}
	stat, err := os.Stat(part)
	if err != nil || stat.Size() == 0 || had.Size >= 0 && stat.Size() >= had.Size {
		return version{Size: -1}, 0
	}
	return had, stat.Size()
}

func remember(part string, v version, resumed bool) error {
	if resumed {
		return nil
	}
	content, err := json.Marshal(v)
	if err != nil {
		return err
	}
	// Remove the old part first: it must never pass for a part of this version.
	if err := removeAll(part); err != nil {
		return err
	}
	return os.WriteFile(part+".json", content, 0o644)
}
