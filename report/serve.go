package report

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/koala-lm/koala-lm/report/page"
	"github.com/koala-lm/koala-lm/tracking"
)

// Server serves the page of a store's runs. It only reads, and answers only GET.
//
//	/        the page
//	/data    its data as JSON, or with since and marks of the data that the page has,
//	         only the runs that changed
//	/curves  a metric of the runs with the ids, to be drawn among that many
//	/run     the details of the run with the id
//	/where   the ids of the runs for which the condition q holds
//	/events  server-sent events: "changed" whenever the store has changed
type Server struct {
	Store *tracking.Store
	Query tracking.Query // selects the runs
	Token string         // "" on loopback: then requests must name a loopback host
	Every time.Duration  // time between two reads of the store

	mu    sync.Mutex
	watch *tracking.Watch
	kept  *pageData // all data, until the store changes
}

// Handler returns the server's handler.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.page)
	mux.HandleFunc("GET /data", s.data)
	mux.HandleFunc("GET /curves", s.curves)
	mux.HandleFunc("GET /run", s.run)
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
	data, err := s.all(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = page.WriteLive(w, data) // its only error: the browser is gone
}

// all returns the data of all runs, and reads it only if the store has changed.
func (s *Server) all(ctx context.Context) (*pageData, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watch == nil {
		watch, err := s.Store.Watch(context.WithoutCancel(ctx))
		if err != nil {
			return nil, err
		}
		s.watch = watch
	}
	changed, err := s.watch.Changed(ctx)
	if err != nil {
		return nil, err
	}
	if changed || s.kept == nil {
		s.kept = nil
		if s.kept, err = s.read(ctx, s.Query); err != nil {
			return nil, err
		}
	}
	return s.kept, nil
}

// read returns the page's data. The time of writing is taken before reading: what
// changes meanwhile counts as changed later.
func (s *Server) read(ctx context.Context, query tracking.Query) (*pageData, error) {
	now, limit := time.Now(), query.Limit
	if limit > 0 {
		query.Limit++ // one more shows whether the limit leaves any out
	}
	runs, err := s.Store.Runs(ctx, query)
	if err != nil {
		return nil, err
	}
	cut := limit > 0 && len(runs) > limit
	if cut {
		runs = runs[:limit]
	}
	data := newPageData(runs, now)
	data.Live, data.Cut, data.Written, data.Marks = true, cut, now.UTC().Format(time.RFC3339Nano), marks(runs)
	return data, nil
}

// marks identifies which runs there are, and their states, notes and tags: what changes
// without a sign of life of a run, such as a crash on another host.
func marks(runs []tracking.RunSummary) string {
	hash := sha256.New()
	for _, run := range runs {
		fmt.Fprintf(hash, "%q %q %q %q\n", run.ID, run.Status, run.Note, run.Tags)
	}
	return hex.EncodeToString(hash.Sum(nil)[:8])
}

func (s *Server) data(w http.ResponseWriter, r *http.Request) {
	form := r.URL.Query()
	data, err := s.changes(r.Context(), form.Get("since"), form.Get("marks"))
	writeResponse(w, data, err)
}

// changes returns the data of the runs that have given a sign of life since a time, and
// all data for a page that has other runs, notes or tags.
func (s *Server) changes(ctx context.Context, since, known string) (*pageData, error) {
	if since == "" {
		return s.all(ctx)
	}
	after, err := time.Parse(time.RFC3339Nano, since)
	if err != nil {
		return nil, fmt.Errorf("since: %w", err)
	}
	query := s.Query
	query.Parts = &tracking.Parts{Tags: true}
	runs, err := s.Store.Runs(ctx, query)
	if err != nil {
		return nil, err
	}
	now := marks(runs)
	if now != known {
		return s.all(ctx)
	}
	query = s.Query
	query.Since = after.Add(-2 * tracking.HeartbeatEvery) // clocks of other hosts differ a little
	data, err := s.read(ctx, query)
	if err != nil {
		return nil, err
	}
	data.Part, data.Marks = true, now
	// Settings are relative to the runs of the whole page: send them all.
	for i := range data.Runs {
		maps.Copy(data.Runs[i].Settings, data.Common)
	}
	return data, nil
}

// curves answers with the curves of a metric, by id. The more curves they are drawn
// among, the fewer points each has.
func (s *Server) curves(w http.ResponseWriter, r *http.Request) {
	form := r.URL.Query()
	ids := strings.Fields(form.Get("ids"))
	among, _ := strconv.Atoi(form.Get("among")) // without it, among those that are asked for
	points := pagePoints * len(ids) / max(1, len(ids), among)
	curves, err := newPageCurves(r.Context(), s.Store, ids, form.Get("metric"), points)
	writeResponse(w, curves, err)
}

// run answers with the details of a run.
func (s *Server) run(w http.ResponseWriter, r *http.Request) {
	run, err := s.Store.Run(r.Context(), r.URL.Query().Get("id"))
	writeResponse(w, NewDetailRecord(run).Details, err)
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
	if errors.Is(err, tracking.ErrBadQuestion) {
		answer.Error, err = err.Error(), nil
	}
	for _, row := range rows {
		answer.IDs = append(answer.IDs, plain(row[0]))
	}
	writeResponse(w, answer, err)
}

// writeResponse answers with JSON or with the error.
func writeResponse(w http.ResponseWriter, value any, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
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
	watch, err := s.Store.Watch(r.Context())
	if err != nil {
		return
	}
	defer watch.Close()
	for {
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
		changed, err := watch.Changed(r.Context())
		if err == nil && changed {
			_, err = fmt.Fprintf(w, "event: changed\ndata: {}\n\n")
			flusher.Flush()
		}
		if err != nil {
			return // the browser asks again
		}
	}
}
