package configs

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestJSONRoundTrip(t *testing.T) {
	cases := map[string][]string{
		"defaults": nil,
		"fixed r":  {"optimizer.r=1e-4", "train.seed=-9223372036854775808"},
		"adaptive": {"model.softmax=adaptive", "model.cutoffs=[10, 20]", "train.time_limit=1h2m3.5s"},
	}
	kinds, _ := declaration("optimizer.kind")
	for _, kind := range kinds.Domain.Words() {
		cases[kind] = []string{"optimizer.kind=" + kind}
		cases["transformer "+kind] = []string{"optimizer.kind=" + kind, "model.kind=transformer", "schedule.kind=cosine"}
	}
	for name, set := range cases {
		want := build(t, set...)
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got Settings
		if err := json.Unmarshal(text, &got); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestFlatHasWhatApplies(t *testing.T) {
	var lines []string
	for _, kv := range build(t, "optimizer.kind=sgd").Flat() {
		lines = append(lines, kv.Key+"="+Text(kv.Value))
	}
	got := strings.Join(lines, "\n")
	for _, want := range []string{"model.kind=lstm", "train.clip=0.25", "optimizer.lr=20", "train.bptt=35", "model.tied=true", "train.time_limit=0s"} {
		if !strings.Contains("\n"+got+"\n", "\n"+want+"\n") {
			t.Errorf("%s is missing in\n%s", want, got)
		}
	}
	for _, key := range []string{"optimizer.sigma", "model.heads", "schedule.gamma", "model.cutoffs"} {
		if strings.Contains(got, key) {
			t.Errorf("%s means nothing here, but is listed", key)
		}
	}
}

func TestDiff(t *testing.T) {
	a, b := build(t, "optimizer.kind=koala-v"), build(t, "optimizer.kind=sgd", "train.seed=2")
	want := []string{"optimizer.kind", "optimizer.lr", "optimizer.sigma", "optimizer.q", "optimizer.r", "optimizer.alpha_r",
		"optimizer.target", "optimizer.decay_in_step", "optimizer.momentum", "optimizer.nesterov", "train.clip", "train.seed"}
	got := Diff(a, b)
	slices.Sort(want) // the order is that of the optimizers' declarations
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := Diff(a, build(t, "optimizer.kind=koala-v")); got != nil {
		t.Errorf("equal settings differ in %q", got)
	}
}
