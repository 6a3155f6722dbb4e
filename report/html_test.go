package report

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/koala-lm/koala-lm/report/page"
	"github.com/koala-lm/koala-lm/tracking"
	"github.com/koala-lm/koala-lm/tracking/storetest"
)

// pageOf returns the page of all runs and the data that its script reads.
func pageOf(t *testing.T, s *tracking.Store) (string, pageData) {
	t.Helper()
	var b bytes.Buffer
	if err := WriteHTML(context.Background(), &b, s, allRuns(t, s), time.Now()); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	found := regexp.MustCompile(`(?s)<script type="application/json" id="data">(.*?)</script>`).FindStringSubmatch(text)
	if found == nil {
		t.Fatal("the page has no data")
	}
	var data pageData
	if err := json.Unmarshal([]byte(found[1]), &data); err != nil {
		t.Fatal(err)
	}
	return text, data
}

func TestPageHoldsEverything(t *testing.T) {
	s := filled(t)
	text, data := pageOf(t, s)
	if len(data.Runs) != 4+len(storetest.DangerousNames) || len(data.Metrics) < 8 || len(data.Drawn) != firstDrawn {
		t.Errorf("%d runs, metrics %v, drawn %v", len(data.Runs), data.Metrics, data.Drawn)
	}
	for i, name := range storetest.DangerousNames {
		if got := data.Runs[len(storetest.DangerousNames)-1-i].Name; got != name {
			t.Errorf("name %q became %q", name, got)
		}
	}
	oldest := data.Runs[len(data.Runs)-1]
	curve := data.Curves["train_ppl"][oldest.ID]
	if len(curve.Step) != 200 || len(curve.Value) != 200 || curve.Tokens[199] != 140_000 {
		t.Errorf("the curve has %d points", len(curve.Step))
	}
	if oldest.Details == nil || len(oldest.Events) == 0 || oldest.Versions["go"] == "" {
		t.Errorf("the page lacks details: %+v", oldest.Details)
	}
	if data.Common["model.hidden"] != 200.0 || data.Runs[0].Settings["model.hidden"] != nil {
		t.Error("settings that all share are not told apart")
	}
	if strings.Contains(text, "{{") {
		t.Error("a place in the page was not filled")
	}
}

// The page contains only its own script and loads nothing.
func TestPageIsHarmless(t *testing.T) {
	text, _ := pageOf(t, filled(t))
	if n := strings.Count(text, "<script"); n != 2 {
		t.Errorf("%d scripts", n)
	}
	if n := strings.Count(text, "</script"); n != 2 {
		t.Errorf("%d ends of scripts", n)
	}
	rest := strings.ReplaceAll(text, "http://www.w3.org/2000/svg", "")
	for _, loading := range []string{"http:", "https:", "src=", "@import", "url(", "fetch(", "innerHTML", "eval("} {
		if strings.Contains(rest, loading) {
			t.Errorf("the page has %q", loading)
		}
	}
}

func TestPageOfNothing(t *testing.T) {
	s, err := tracking.Open(filepath.Join(t.TempDir(), "koala.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, data := pageOf(t, s); len(data.Runs) != 0 || data.Runs == nil {
		t.Errorf("%+v", data)
	}
}

func TestPageRefusesWhatJSONCannotHold(t *testing.T) {
	if err := page.Write(&bytes.Buffer{}, func() {}); err == nil {
		t.Error("a function was written")
	}
}

// A browser, where one is installed, draws the page without an error: few curves as
// SVG, many on canvases.
func TestPageInBrowser(t *testing.T) {
	browser := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			browser = path
		}
	}
	if browser == "" || testing.Short() {
		t.Skip("no browser is installed")
	}
	t.Run("few", func(t *testing.T) {
		text, _ := pageOf(t, filled(t))
		dom := inBrowser(t, browser, text, "")
		for _, part := range []string{"12 of 12 runs", `aria-label="val_ppl against steps, 10 curves"`, "koala++ 2</button>",
			"&lt;/script&gt;&lt;script&gt;alert('x')&lt;/script&gt;"} {
			if !strings.Contains(dom, part) {
				t.Errorf("the page does not show %q", part)
			}
		}
		if strings.Contains(dom, "<canvas") || strings.Count(dom, `class="line"`) != 3*10 {
			t.Error("10 curves are no SVG")
		}
	})
	t.Run("many", func(t *testing.T) {
		const runs = 150
		store := empty(t)
		if err := storetest.FillLarge(t.Context(), store, runs, 50); err != nil {
			t.Fatal(err)
		}
		text, data := pageOf(t, store)
		var ids []string
		for _, run := range data.Runs {
			ids = append(ids, run.ID)
		}
		dom := inBrowser(t, browser, text, "#draw="+strings.Join(ids, "+"))
		for _, part := range []string{"150 of 150 runs", `aria-label="val_ppl against steps, 150 curves"`, "and 134 more"} {
			if !strings.Contains(dom, part) {
				t.Errorf("the page does not show %q", part)
			}
		}
		if strings.Count(dom, "<canvas") != 3 || strings.Contains(dom, `class="line"`) {
			t.Error("150 curves are not on canvases")
		}
	})
}

// inBrowser returns the document that the scripts of a page have made.
func inBrowser(t *testing.T, browser, page, fragment string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "page.html")
	if err := os.WriteFile(file, []byte(page), 0o644); err != nil {
		t.Fatal(err)
	}
	var errOut bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--user-data-dir="+t.TempDir(),
		"--virtual-time-budget=2000", "--enable-logging=stderr", "--dump-dom", "file://"+file+fragment)
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("the browser does not run here: %v", err)
	}
	for line := range strings.Lines(errOut.String()) {
		if strings.Contains(line, "CONSOLE") {
			t.Errorf("the console: %s", line)
		}
	}
	return string(out)
}
