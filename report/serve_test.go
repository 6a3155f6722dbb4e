package report

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/koala-lm/koala-lm/tracking"
	"github.com/koala-lm/koala-lm/tracking/storetest"
)

// served starts a server of the store's page.
func served(t *testing.T, s *Server) *httptest.Server {
	t.Helper()
	s.Every = time.Millisecond
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	return server
}

func get(t *testing.T, address string) (int, string) {
	t.Helper()
	response, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func TestServeFollowsTheStore(t *testing.T) {
	store := filled(t)
	server := served(t, &Server{Store: store})
	code, text := get(t, server.URL)
	if code != 200 || !strings.Contains(text, "connect-src 'self'") || strings.Count(text, "<script") != 3 {
		t.Fatalf("%d %.500s", code, text)
	}
	_, text = get(t, server.URL+"/data")
	var data pageData
	if err := json.Unmarshal([]byte(text), &data); err != nil || len(data.Runs) != 4+len(storetest.DangerousNames) || !data.Live ||
		data.Part || len(data.Curves) > 0 || data.Runs[0].Details != nil {
		t.Fatalf("%d runs (%v)", len(data.Runs), err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, "GET", server.URL+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	events, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer events.Body.Close()
	lines := bufio.NewScanner(events.Body)
	await := func() { // waits for a change, or the test's time limit
		t.Helper()
		for lines.Scan() {
			if lines.Text() == "event: changed" {
				return
			}
		}
		t.Fatal("the events ended")
	}
	// The writers are other connections, as those of other processes are.
	writer, err := tracking.Open(store.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	run, err := writer.StartRun(t.Context(), storetest.Example("live", "adam", 1, 1))
	if err != nil {
		t.Fatal(err)
	}
	await()
	var all pageData
	_, text = get(t, server.URL+"/data?since="+url.QueryEscape(data.Written)+"&marks="+data.Marks)
	if err := json.Unmarshal([]byte(text), &all); err != nil || all.Part || len(all.Runs) != len(data.Runs)+1 {
		t.Fatalf("after a new run: part %v, %d runs (%v)", all.Part, len(all.Runs), err)
	}
	if err := run.Log(tracking.Point{Step: 7, Values: map[string]float64{"val_ppl": 99, "train_loss": 3}}); err != nil {
		t.Fatal(err)
	}
	if err := run.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	await()
	later := "/data?since=" + url.QueryEscape(time.Now().Add(time.Minute).UTC().Format(time.RFC3339Nano))
	_, text = get(t, server.URL+later+"&marks="+all.Marks)
	var changes pageData
	if err := json.Unmarshal([]byte(text), &changes); err != nil || !changes.Part || len(changes.Runs) != 1 || changes.Runs[0].Name != "live" ||
		changes.Runs[0].Steps != 7 || changes.Runs[0].Settings["model.hidden"] != 200.0 {
		t.Errorf("%d runs (%v): %.2000s", len(changes.Runs), err, text)
	}
	// Edits that keep the length of a note and the number of tags are changes too.
	id, old := data.Runs[0].ID, all.Marks
	for _, edit := range []struct {
		name string
		make func() error
	}{
		{"note", func() error { return writer.Note(t.Context(), id, "one") }},
		{"as long", func() error { return writer.Note(t.Context(), id, "two") }},
		{"tag", func() error { return writer.Tag(t.Context(), id, []string{"first"}, nil) }},
		{"as many", func() error { return writer.Tag(t.Context(), id, []string{"other"}, []string{"first"}) }},
		{"an end, the clock set back", func() error { return run.Finish(tracking.Finished, "") }},
	} {
		if err := edit.make(); err != nil {
			t.Fatal(err)
		}
		await()
		var edited pageData
		_, text = get(t, server.URL+later+"&marks="+old)
		if err := json.Unmarshal([]byte(text), &edited); err != nil || edited.Part || edited.Marks == old || len(edited.Runs) != len(all.Runs) {
			t.Errorf("%s: part %v (%v)", edit.name, edited.Part, err)
		}
		old = edited.Marks
	}
}

// A page of the first runs says that there are more.
func TestPageSaysThatRunsAreLeftOut(t *testing.T) {
	store := filled(t)
	all := len(allRuns(t, store))
	for limit, cut := range map[int]bool{0: false, 3: true, all - 1: true, all: false} {
		server := served(t, &Server{Store: store, Query: tracking.Query{Limit: limit}})
		var data, part pageData
		_, text := get(t, server.URL+"/data")
		if err := json.Unmarshal([]byte(text), &data); err != nil || data.Cut != cut || cut != (len(data.Runs) < all) || cut && len(data.Runs) != limit {
			t.Errorf("limit %d: cut %v, %d runs (%v)", limit, data.Cut, len(data.Runs), err)
		}
		_, text = get(t, server.URL+"/data?since="+url.QueryEscape(data.Written)+"&marks="+data.Marks)
		if err := json.Unmarshal([]byte(text), &part); err != nil || !part.Part {
			t.Errorf("limit %d: without a change, all data comes again (%v)", limit, err)
		}
	}
	browser := browserOf(t)
	var page bytes.Buffer
	if err := WriteHTML(t.Context(), &page, store, allRuns(t, store)[:2], true, time.Now()); err != nil {
		t.Fatal(err)
	}
	if got := inFrame(t, browser, page.String(), 1400, `return document.getElementById("about").textContent.split(",")[0]`); got != `"only the first 2 runs (--limit 0 takes all)"` {
		t.Error(got)
	}
}

// A served page asks for the curves that it draws and for the details that it shows.
func TestServeAnswersQuestions(t *testing.T) {
	store := filled(t)
	server := served(t, &Server{Store: store})
	runs := allRuns(t, store)
	oldest := runs[len(runs)-1]
	var curves pageCurves
	_, text := get(t, server.URL+"/curves?metric=train_ppl&ids="+url.QueryEscape(oldest.ID+" "+runs[0].ID+" unknown"))
	if err := json.Unmarshal([]byte(text), &curves); err != nil || len(curves) != 3 || len(curves[oldest.ID].Value) != 200 || len(curves["unknown"].Value) != 0 {
		t.Errorf("curves of %d runs (%v): %.300s", len(curves), err, text)
	}
	curves = nil // thousands of curves have no more points together than a picture needs
	_, text = get(t, server.URL+"/curves?metric=train_ppl&among=3000&ids="+oldest.ID)
	if err := json.Unmarshal([]byte(text), &curves); err != nil || len(curves[oldest.ID].Value) != fewestPoints {
		t.Errorf("%d points among 3000 curves (%v)", len(curves[oldest.ID].Value), err)
	}
	var details Details
	_, text = get(t, server.URL+"/run?id="+oldest.ID)
	if err := json.Unmarshal([]byte(text), &details); err != nil || len(details.Events) == 0 || details.Versions["go"] == "" {
		t.Errorf("details %.300s (%v)", text, err)
	}
	if code, text := get(t, server.URL+"/run?id=unknown"); code != 500 || !strings.Contains(text, "no such run") {
		t.Errorf("%d %s", code, text)
	}
}

func TestServeFilters(t *testing.T) {
	server := served(t, &Server{Store: filled(t), Query: tracking.Query{Where: "steps >= 20"}})
	for condition, want := range map[string]string{
		"steps >= 200 && steps < 250": `"ids":["`,
		"steps < 5":                   `"ids":[]`,
		"val_pll < 3":                 "did you mean val_ppl",
		"optimizer.lr < '1'":          "optimizer.lr is a number",
	} {
		t.Run(condition, func(t *testing.T) {
			if code, text := get(t, server.URL+"/where?q="+url.QueryEscape(condition)); code != 200 || !strings.Contains(text, want) {
				t.Errorf("%d %s", code, text)
			}
		})
	}
}

// The server answers only GET requests with the token, or on loopback only GET
// requests for a loopback host.
func TestServeKeepsOthersOut(t *testing.T) {
	store := filled(t)
	open, closed := served(t, &Server{Store: store}), served(t, &Server{Store: store, Token: "secret"})
	for name, test := range map[string]struct {
		method, address, host string
		want                  int
	}{
		"loopback":              {"GET", open.URL + "/", "", 200},
		"localhost":             {"GET", open.URL + "/", "localhost:7007", 200},
		"another name":          {"GET", open.URL + "/", "evil.example", 403},
		"another name's data":   {"GET", open.URL + "/data", "evil.example:80", 403},
		"no token":              {"GET", closed.URL + "/", "", 403},
		"wrong token":           {"GET", closed.URL + "/data?token=x", "", 403},
		"token":                 {"GET", closed.URL + "/?token=secret", "", 200},
		"token for another":     {"GET", closed.URL + "/data?token=secret", "gpu.example", 200},
		"events without token":  {"GET", closed.URL + "/events", "", 403},
		"post":                  {"POST", open.URL + "/data", "", 405},
		"no such page":          {"GET", open.URL + "/../etc/passwd", "", 404},
		"a time that is no one": {"GET", open.URL + "/data?since=x", "", 500},
	} {
		t.Run(name, func(t *testing.T) {
			request, err := http.NewRequest(test.method, test.address, nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Host = test.host
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if response.StatusCode != test.want {
				t.Errorf("%d, want %d", response.StatusCode, test.want)
			}
		})
	}
}

// A spike that a long curve averages away stays in the curve's range, and values
// that are not finite are kept.
func TestPageHidesNoSpike(t *testing.T) {
	points := make([]tracking.CurvePoint, 10_000)
	for i := range points {
		points[i] = tracking.CurvePoint{Step: int64(i), Last: int64(i), Value: 5, Lowest: 5, Highest: 5, Count: 1}
	}
	points[4321].Value, points[4321].Lowest, points[4321].Highest = 80, 80, 80
	c := newPageCurve(points, 100)
	highest := rounded(0)
	for _, v := range c.High {
		highest = max(highest, v)
	}
	if len(c.Value) != 100 || highest != 80 {
		t.Errorf("%d points up to %v, want 100 up to 80", len(c.Value), highest)
	}
	points[7000].Value, points[9000].Value = math.NaN(), math.Inf(1)
	var lost []int64
	for i, c := 0, newPageCurve(points, 100); i < len(c.Value); i++ {
		if notFinite(float64(c.Value[i])) != "" {
			lost = append(lost, c.Step[i])
		}
	}
	if !slices.Equal(lost, []int64{7000, 9000}) {
		t.Errorf("steps %v have values that are not finite, want 7000 and 9000", lost)
	}
	if flat := newPageCurve(points[:50], 100); flat.Low != nil || flat.High != nil {
		t.Error("a curve of single values has a band")
	}
}
