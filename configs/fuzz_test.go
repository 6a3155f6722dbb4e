package configs

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Every file gives settings that survive a round trip through JSON, or problems of
// one line each.
func FuzzSource(f *testing.F) {
	for _, p := range Presets() {
		f.Add(p.Text)
	}
	f.Add("train: {batch: 1.5, time_limit: 5m}\nmodel: {softmax: adaptive, cutoffs: [1, 2]}\n---\nx")
	f.Add("a: &a [*a]\n<<: *a\n? {b: c}\n: d\n")
	f.Add("optimizer: {kind: koala-m, r: adaptive}\nschedule: {kind: cosine, warmup: 0x10}\n")
	f.Add("\"train\\nbatch\": \"\\u2028\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		var b Builder
		b.Source("f.yaml", []byte(text))
		settings, err := b.Settings()
		if err != nil {
			for _, p := range err.(Problems) {
				if strings.ContainsAny(p.String(), "\n\r") {
					t.Fatalf("a problem of several lines: %q", p)
				}
			}
			return
		}
		encoded, err := json.Marshal(settings)
		if err != nil {
			t.Fatal(err)
		}
		var again Settings
		if err := json.Unmarshal(encoded, &again); err != nil {
			t.Fatalf("%s: %v", encoded, err)
		}
		if diff := cmp.Diff(settings, again); diff != "" {
			t.Fatalf("changed by a round trip (-before +after):\n%s", diff)
		}
	})
}
