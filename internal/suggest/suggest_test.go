package suggest

import (
	"slices"
	"testing"
)

func TestName(t *testing.T) {
	keys := []string{"train.batch", "train.bptt", "optimizer.lr", "optimizer.kind", "koala-v", "koala-m", "koala++"}
	for _, test := range []struct{ name, want string }{
		{"train.bacth", "train.batch"},
		{"optimiser.lr", "optimizer.lr"},
		{"Optimizer.Kind", "optimizer.kind"},
		{"koala_v", "koala-v"},
		{"koala+", "koala++"},
		{"train.batch", "train.batch"},
		{"zzz", ""},
		{"", ""},
	} {
		if got := Name(test.name, keys); got != test.want {
			t.Errorf("Name(%q) = %q, want %q", test.name, got, test.want)
		}
	}
}

func TestNearest(t *testing.T) {
	if got, want := Nearest("adm", []string{"sgd", "Adam", "lion", "asgd"}), []string{"Adam", "sgd", "asgd", "lion"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestDistance(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"abc", "", 3}, {"", "abc", 3}, {"abc", "acb", 1}, {"kitten", "sitting", 3}, {"abc", "abc", 0},
	} {
		if got := distance(test.a, test.b); got != test.want {
			t.Errorf("distance(%q, %q) = %d, want %d", test.a, test.b, got, test.want)
		}
	}
}
