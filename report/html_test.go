package report

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"html"
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
	if err := WriteHTML(context.Background(), &b, s, allRuns(t, s), false, time.Now()); err != nil {
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
	browser := browserOf(t)
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

// browserOf returns the browser that is installed, or skips the test.
func browserOf(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("a browser takes long")
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("no browser is installed")
	return ""
}

// What people do with the page: each script acts in a page of that many pixels across,
// and returns what it finds.
func TestPageIsUsed(t *testing.T) {
	browser := browserOf(t)
	store := empty(t)
	if err := storetest.FillLarge(t.Context(), store, 120, 50); err != nil {
		t.Fatal(err)
	}
	text, _ := pageOf(t, store)
	for name, c := range map[string]struct {
		width        int
		script, want string
	}{
		"sorting keeps the keyboard's focus": {1400, `
			const header = [...document.querySelectorAll("#head button")].find((b) => b.textContent.startsWith("steps"));
			header.focus();
			header.click();
			const rows = () => [...document.querySelectorAll("#body tr")].map((r) => Number(r.cells[header.closest("th").cellIndex].textContent.replaceAll(",", "")));
			const rising = rows().every((v, i, all) => i === 0 || all[i - 1] <= v);
			header.click();
			const falling = rows().every((v, i, all) => i === 0 || all[i - 1] >= v);
			return [rising, falling, document.activeElement === header, header.closest("th").getAttribute("aria-sort")];`, `[true,true,true,"descending"]`},
		"a finger reads values": {390, `
			const chart = document.querySelector("#by-steps svg"), box = chart.getBoundingClientRect();
			const touch = (type) => chart.dispatchEvent(new window.PointerEvent(type, { pointerType: "touch", pointerId: 1, clientX: box.left + box.width / 2, clientY: box.top + 100 }));
			["pointerdown", "pointermove", "pointercancel", "pointerleave"].forEach(touch);
			const tip = document.querySelector("#by-steps .tip");
			return [tip.hidden, tip.children.length > 3, window.getComputedStyle(chart).touchAction];`, `[false,true,"pan-y"]`},
		"a phone scrolls in one direction": {390, `
			document.querySelector("button.name").click();
			return [document.getElementById("detail").textContent.includes("optimizer.lr"), document.documentElement.scrollWidth <= window.innerWidth,
				document.querySelector("#body input").getBoundingClientRect().width >= 18];`, `[true,true,true]`},
		"paper has every row": {1047, ` // A4 across, less its margins
			window.dispatchEvent(new window.Event("beforeprint"));
			for (const rule of document.styleSheets[0].cssRules) if (rule.media && rule.media.mediaText === "print") rule.media.mediaText = "all";
			const scroll = document.querySelector("#runs").parentElement;
			const shown = (e) => e.getClientRects().length > 0;
			return [document.querySelectorAll("#body tr").length, scroll.scrollHeight <= scroll.clientHeight, document.documentElement.scrollWidth <= window.innerWidth,
				[...document.querySelectorAll("#body td:nth-child(2)")].every(shown), shown(document.querySelector("#filter"))];`, `[120,true,true,true,false]`},
		"labels are apart": {390, `
			for (const id of ["log-x", "log-y"]) document.getElementById(id).click();
			await drawn();
			const texts = [...document.querySelectorAll("#by-time svg text, #by-steps svg text, #by-tokens svg text")].map((t) => [t, t.getBoundingClientRect()]);
			const meet = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom - 3 && b.top < a.bottom - 3;
			const frames = [...document.querySelectorAll(".chart svg")].map((svg) => svg.getBoundingClientRect());
			return [texts.length > 12, texts.filter(([a, x], i) => texts.some(([b, y], j) => j > i && meet(x, y))).map(([t]) => t.textContent),
				texts.filter(([t, x]) => frames.some((f) => x.top > f.top && x.bottom < f.bottom && (x.left < f.left || x.right > f.right))).map(([t]) => t.textContent)];`, `[true,[],[]]`},
		"a group has one colour": {1400, `
			for (const [id, value] of [["group", "optimizer.kind"], ["over", "optimizer.lr"]]) {
				document.getElementById(id).value = value;
				document.getElementById("controls").dispatchEvent(new window.Event("input"));
			}
			await drawn();
			const groups = [...document.querySelectorAll("#legend > span")].map((g) => [g.querySelector(".swatch").style.borderTopColor, Number(/mean of (\d+)/.exec(g.textContent)?.[1] ?? 1)]);
			const dots = (color) => [...document.querySelectorAll("#by-setting circle")].filter((c) => c.getAttribute("fill") === color).length;
			return [groups.length > 2, groups.map(([color, runs]) => dots(color) - runs).filter((d) => d !== 0)];`, `[true,[]]`},
		"a condition is explained": {1400, `
			const filter = document.getElementById("filter");
			filter.value = "val_ppl < 120";
			filter.dispatchEvent(new window.Event("input"));
			const said = document.getElementById("filter-error").textContent;
			filter.value = "sgd";
			filter.dispatchEvent(new window.Event("input"));
			return [said.includes("report serve") && said.includes("--where"), document.getElementById("filter-error").textContent];`, `[true,""]`},
	} {
		t.Run(name, func(t *testing.T) {
			if got := inFrame(t, browser, text, c.width, c.script); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// inFrame returns what a script finds in a page, as JSON. The script runs outside of
// the page, whose policy allows no other scripts.
func inFrame(t *testing.T, browser, page string, width int, act string) string {
	t.Helper()
	inner := filepath.Join(t.TempDir(), "inner.html")
	if err := os.WriteFile(inner, []byte(page), 0o644); err != nil {
		t.Fatal(err)
	}
	outer := fmt.Sprintf(`<!doctype html><iframe id="inner" style="width: %dpx; height: 900px; border: 0" src="file://%s"></iframe><pre id="found"></pre>
<script>document.getElementById("inner").addEventListener("load", (event) => {
	const window = event.target.contentWindow, document = window.document;
	const drawn = () => new Promise((resolve) => window.setTimeout(resolve)); // few charts follow one another without a pause
	(async () => {%s})().then((found) => { globalThis.document.getElementById("found").textContent = JSON.stringify(found); });
});</script>`, width, inner, act)
	dom := inBrowser(t, browser, outer, "")
	found := regexp.MustCompile(`<pre id="found">(.*?)</pre>`).FindStringSubmatch(dom)
	if found == nil {
		t.Fatalf("no answer in %s", dom)
	}
	return html.UnescapeString(found[1])
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
	cmd := exec.CommandContext(ctx, browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--user-data-dir="+t.TempDir(), "--allow-file-access-from-files",
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
