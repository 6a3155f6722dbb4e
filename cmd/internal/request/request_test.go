package request

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/koala-lm/koala-lm/configs"
	"github.com/koala-lm/koala-lm/distributed/environment"
)

func settings(t testing.TB) configs.Settings {
	t.Helper()
	var b configs.Builder
	b.Assign("optimizer.kind=koala++", "test")
	s, err := b.Settings()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRoundTrip(t *testing.T) {
	common := Common{Build: "v1", Command: []string{"koala-lm", "train"}, Device: "cuda:1", Threads: 2, Quiet: true}
	model := Model{Run: "01j", Store: "/runs/koala.db", Runs: "/runs"}
	for _, test := range []struct{ r, empty Request }{
		{&Train{Common: common, Data: "/data", Settings: settings(t), Name: "ünïcode \x01", Tags: []string{"a"},
			Place: &environment.Rank{Rank: 1, WorldSize: 2, MasterAddr: "a", MasterPort: 7}, RankTimeout: time.Minute}, &Train{}},
		{&Eval{Common: common, Model: model, Split: "test", Format: "json"}, &Eval{}},
		{&Generate{Common: common, Model: model, Prompt: "The \"quick\"\n", Tokens: 10, Temperature: 0.5, TopP: 1, Count: 2}, &Generate{}},
		{&Bench{Common: common, Settings: settings(t), Vocab: 10, Steps: 3}, &Bench{}},
		{&Export{Common: common, Model: model, To: "huggingface", Out: "/out"}, &Export{}},
	} {
		text, err := Encode(test.r)
		if err != nil {
			t.Fatal(err)
		}
		if err := Parse(text, test.empty); err != nil {
			t.Errorf("%T: %v", test.r, err)
		} else if diff := cmp.Diff(test.r, test.empty); diff != "" {
			t.Errorf("%T (-want +got):\n%s", test.r, diff)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                               "not by hand",
		"{":                              "not by hand",
		"[]":                             "not by hand",
		`{"version": 99, "build": "v9"}`: "koala-lm (v9) speaks version 99 of the requests",
		`{"version": 1, "device": "cpu", "colour": 1}`:                      `unknown field "colour"`,
		`{"version": 1, "device": "tpu"}`:                                   `unknown device "tpu"`,
		`{"version": 1, "device": "cpu", "threads": "x"}`:                   "cannot unmarshal",
		`{"version": 1, "device": "cpu", "settings": {"train.batch": -1}}`:  "train.batch must be a whole number of at least 1, not -1",
		`{"version": 1, "device": "cpu", "settings": {"train.bacth": "x"}}`: "did you mean train.batch?",
	} {
		var r Train
		if err := Parse(text, &r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestTooLongForOneArgument(t *testing.T) {
	_, err := Encode(&Generate{Prompt: strings.Repeat("x", 128<<10)})
	if err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("got %v", err)
	}
	if text, err := Encode(&Generate{Prompt: strings.Repeat("x", 100<<10)}); err != nil || len(text) > maxRequest {
		t.Errorf("%d bytes, %v", len(text), err)
	}
}

func TestParseDevice(t *testing.T) {
	for _, s := range []string{"auto", "cpu", "cuda", "cuda:0", "cuda:15"} {
		if d, err := ParseDevice(s); err != nil || string(d) != s {
			t.Errorf("%s: %q, %v", s, d, err)
		}
	}
	for _, s := range []string{"", "gpu", "cuda:", "cuda:-1", "cuda:x", "cuda:01", "CPU", "cuda:1000", "cpu:0"} {
		if d, err := ParseDevice(s); err == nil {
			t.Errorf("%q is taken for %s", s, d)
		}
	}
}

func TestMissingEngine(t *testing.T) {
	// Beside the test binary there is no engine.
	_, err := FindEngine()
	self, _ := os.Executable()
	self, _ = filepath.EvalSymlinks(self)
	if want := filepath.Join(filepath.Dir(self), EngineName); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "make build") {
		t.Errorf("got %v, want %s named and how to build it", err, want)
	}
	if err := Exec("train", &Train{}); err == nil || !strings.Contains(err.Error(), "make build") {
		t.Errorf("Exec: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	text, err := Encode(&Train{Common: Common{Device: "auto"}, Settings: settings(f)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(`{"version":1,"device":"cpu","settings":null}`)
	f.Add(`{"version":1,"device":"cpu","settings":{"optimizer.r":0.5}} {}`)
	f.Fuzz(func(t *testing.T, text string) {
		var r Train
		if Parse(text, &r) != nil {
			return
		}
		again, err := Encode(&r)
		if err != nil {
			return // escapes made it longer
		}
		var second Train
		if err := Parse(again, &second); err != nil {
			t.Fatalf("%s: %v", again, err)
		}
	})
}

// A run id is a folder's name: a store from elsewhere must not lead out of the
// folder of runs.
func TestParseRefusesRunIDs(t *testing.T) {
	for _, id := range []string{"..", ".", "../../victim", "/etc", "a/b", "a\x00b"} {
		for name, r := range map[string]Request{
			"resume":   &Train{Common: Common{Device: "cpu"}, Settings: settings(t), Resume: id},
			"fork":     &Train{Common: Common{Device: "cpu"}, Settings: settings(t), Fork: id},
			"eval":     &Eval{Common: Common{Device: "cpu"}, Model: Model{Run: id}},
			"generate": &Generate{Common: Common{Device: "cpu"}, Model: Model{Run: id}},
			"export":   &Export{Common: Common{Device: "cpu"}, Model: Model{Run: id}},
		} {
			t.Run(name+" "+id, func(t *testing.T) {
				text, err := Encode(r)
				if err != nil {
					t.Fatal(err)
				}
				into := reflect.New(reflect.TypeOf(r).Elem()).Interface().(Request)
				if err := Parse(text, into); err == nil || !strings.Contains(err.Error(), "is not the name of a folder") {
					t.Errorf("%v", err)
				}
			})
		}
	}
}
