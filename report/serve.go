package report

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/koala-lm/koala-lm/report/page"
	"github.com/koala-lm/koala-lm/tracking"
)

// Server serves the page of a store's runs. It only reads, and answers only GET.
//
//	/        the page
//	/data    its data as JSON; with since=TIME only the runs that changed later
//	/where   the ids of the runs for which the condition q holds
//	/events  server-sent events: "changed" whenever the store has changed
type Server struct {
	Store *tracking.Store
	Query tracking.Query // selects the runs
	Token string         // "" on loopback: then requests must name a loopback host
	Every time.Duration  // time between two reads of the store
}

// Handler returns the server's handler.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.page)
	mux.HandleFunc("GET /data", s.data)
	mux.HandleFunc("GET /where", s.where)
	mux.HandleFunc("GET /events", s.events)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Cache-Control", "no-store")
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Referrer-Policy", "no-referrer")
		if !s.allowed(r) {
			http.Error(w, "this page needs the address, with its token, that koala-lm report serve printed", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// allowed checks the token. Without a token it checks that the browser asks for a
// loopback host: another name could be a web site that resolves to this address.
func (s *Server) allowed(r *http.Request) bool {
	if s.Token != "" {
		return subtle.ConstantTimeCompare([]byte(r.URL.Query().Get("token")), []byte(s.Token)) == 1
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	data, err := s.read(r.Context(), s.Query)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = page.WriteLive(w, data) // its only error: the browser is gone
}

// read returns the page's data. The time of writing is taken before reading: what
// changes meanwhile counts as changed later.
func (s *Server) read(ctx context.Context, query tracking.Query) (*pageData, error) {
	now := time.Now()
	runs, err := s.Store.Runs(ctx, query)
	if err != nil {
		return nil, err
	}
	data, err := newPageData(ctx, s.Store, runs, now)
	if err != nil {
		return nil, err
	}
	data.Live, data.Written = true, now.UTC().Format(time.RFC3339Nano)
	return data, nil
}

func (s *Server) data(w http.ResponseWriter, r *http.Request) {
	data, err := s.changes(r.Context(), r.URL.Query().Get("since"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	writeResponse(w, data)
}

// changes returns the data of the runs that have given a sign of life since a time;
// for "" it returns all data. A change of tags or notes alone asks the page to load
// everything.
func (s *Server) changes(ctx context.Context, since string) (*pageData, error) {
	if since == "" {
		return s.read(ctx, s.Query)
	}
	after, err := time.Parse(time.RFC3339Nano, since)
	if err != nil {
		return nil, fmt.Errorf("since: %w", err)
	}
	rows, err := s.Store.Values(ctx, s.Query, tracking.Name{Key: "id"})
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(rows))
	for i, row := range rows {
		ids[i] = plain(row[0])
	}
	query := s.Query
	query.Since = after.Add(-2 * tracking.HeartbeatEvery) // clocks of other hosts differ a little
	query.IDs = ids
	data, err := s.read(ctx, query)
	if err != nil {
		return nil, err
	}
	data.IDs, data.All = ids, len(data.Runs) == 0
	// Settings are relative to the runs of the whole page: send them all.
	for i := range data.Runs {
		for key, value := range data.Common {
			data.Runs[i].Settings[key] = value
		}
	}
	return data, nil
}

// where answers with the ids of the runs that match, or with the error of the filter.
func (s *Server) where(w http.ResponseWriter, r *http.Request) {
	query := s.Query
	if query.Where = r.URL.Query().Get("q"); s.Query.Where != "" {
		query.Where = "(" + s.Query.Where + ") && (" + query.Where + ")"
	}
	rows, err := s.Store.Values(r.Context(), query, tracking.Name{Key: "id"})
	answer := struct {
		IDs   []string `json:"ids"`
		Error string   `json:"error,omitempty"`
	}{IDs: []string{}}
	switch {
	case errors.Is(err, tracking.ErrBadQuestion):
		answer.Error = err.Error()
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	for _, row := range rows {
		answer.IDs = append(answer.IDs, plain(row[0]))
	}
	writeResponse(w, answer)
}

func writeResponse(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value) // its only error: the browser is gone
}

// events sends "changed" after each change of the store, until the browser goes.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	flusher, ok := w.(http.Flusher)
	if !ok {
		http.Error(w, "this server cannot send events", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	_, _ = fmt.Fprint(w, "retry: 2000\n\n")
	flusher.Flush()
	tick := time.NewTicker(s.Every)
	defer tick.Stop()
	version, err := s.Store.Version(r.Context())
	for err == nil {
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
		var now []any
		if now, err = s.Store.Version(r.Context()); err != nil || slices.Equal(now, version) {
			continue
		}
		version = now
		if _, err = fmt.Fprintf(w, "event: changed\ndata: {}\n\n"); err == nil {
			flusher.Flush()
		}
	}
}
