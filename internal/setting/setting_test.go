package setting_test

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/koala-lm/koala-lm/internal/setting"
)

func scalar(text string) setting.Literal { return setting.Literal{Text: text} }
func quoted(text string) setting.Literal { return setting.Literal{Text: text, Quoted: true} }
func list(texts ...string) setting.Literal {
	l := setting.Literal{IsList: true}
	for _, text := range texts {
		l.List = append(l.List, scalar(text))
	}
	return l
}

func TestDomains(t *testing.T) {
	for _, test := range []struct {
		name   string
		domain setting.Domain
		in     setting.Literal
		want   any // nil where the domain does not have it
	}{
		{"int", setting.AtLeast(1), scalar("7"), int64(7)},
		{"int below", setting.AtLeast(1), scalar("0"), nil},
		{"int above", setting.AtLeast(1), scalar("2147483648"), nil},
		{"int with a point", setting.AtLeast(1), scalar("1.0"), nil},
		{"int in quotes", setting.AtLeast(1), quoted("7"), nil},
		{"int list", setting.AtLeast(1), list("7"), nil},
		{"seed", setting.AnyInt, scalar("-9223372036854775808"), int64(math.MinInt64)},
		{"float", setting.Positive, scalar("1e-3"), 1e-3},
		{"float at an open end", setting.Positive, scalar("0"), nil},
		{"float at a closed end", setting.Fraction, scalar("1"), 1.0},
		{"float at the other open end", setting.Below1, scalar("1"), nil},
		{"float hexadecimal", setting.Positive, scalar("0x10"), nil},
		{"float infinite", setting.Positive, scalar("1e999"), nil},
		{"float nan", setting.AnyReal, scalar("nan"), nil},
		{"word for a float", setting.FloatOr{Word: "adaptive", Numbers: setting.Positive}, scalar("adaptive"), 0.0},
		{"float beside a word", setting.FloatOr{Word: "adaptive", Numbers: setting.Positive}, scalar("2"), 2.0},
		{"the word's number", setting.FloatOr{Word: "adaptive", Numbers: setting.Positive}, scalar("0"), nil},
		{"bool", setting.Bool{}, scalar("true"), true},
		{"bool in YAML 1.1", setting.Bool{}, scalar("yes"), nil},
		{"one of", setting.OneOf{"a", "b"}, quoted("b"), "b"},
		{"none of", setting.OneOf{"a", "b"}, scalar("c"), nil},
		{"ascending", setting.Ascending{}, list("2", "10"), []int64{2, 10}},
		{"empty list", setting.Ascending{}, list(), []int64{}},
		{"falling", setting.Ascending{}, list("10", "2"), nil},
		{"repeated", setting.Ascending{}, list("2", "2"), nil},
		{"no list", setting.Ascending{}, scalar("2"), nil},
		{"patterns", setting.Patterns{}, list("*.bias", "h.[0-3].*"), []string{"*.bias", "h.[0-3].*"}},
		{"a pattern alone", setting.Patterns{}, quoted("*.bias"), []string{"*.bias"}},
		{"no patterns", setting.Patterns{}, list(), []string{}},
		{"a pattern that does not end", setting.Patterns{}, list("h.[0-3"), nil},
		{"an empty pattern", setting.Patterns{}, list(""), nil},
		{"duration", setting.Duration{}, scalar("1h30m"), 90 * time.Minute},
		{"seconds", setting.Duration{}, scalar("90"), 90 * time.Second},
		{"negative duration", setting.Duration{}, scalar("-3s"), nil},
		{"duration past the range", setting.Duration{}, scalar("1e300"), nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, ok := test.domain.Parse(test.in)
			if ok != (test.want != nil) {
				t.Fatalf("%+v: %v, %v", test.in, got, ok)
			}
			if !ok {
				return
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if again, ok := test.domain.Accept(got); !ok || !cmp.Equal(again, got) {
				t.Errorf("the domain does not accept what it parsed: %v, %v", again, ok)
			}
		})
	}
}

// Parsing a shown value gives the value.
func FuzzParse(f *testing.F) {
	domains := []setting.Domain{
		setting.AnyInt, setting.AtLeast(1), setting.AnyReal, setting.Positive, setting.Below1, setting.Bool{},
		setting.OneOf{"a", "b"}, setting.Duration{}, setting.FloatOr{Word: "adaptive", Numbers: setting.Positive},
	}
	for _, text := range []string{"1", "-7", "1e-3", "true", "a", "1h2m3.5s", "90", "adaptive", "9223372036854775807", "1e15", "0x1p3", ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, d := range domains {
			v, ok := d.Parse(scalar(text))
			if !ok {
				continue
			}
			shown := setting.Text(d.Show(v))
			if again, ok := d.Parse(scalar(shown)); !ok || again != v {
				t.Errorf("%T: %q is %v, shown as %q and read back as %v, %v", d, text, v, shown, again, ok)
			}
		}
	})
}

func lookup(values map[string]any) setting.Lookup {
	return func(key string) any { return values[key] }
}

func TestDefault(t *testing.T) {
	transformer := setting.Is("model.family", "transformer")
	for _, test := range []struct {
		name     string
		d        setting.Default
		in       setting.Domain
		others   map[string]any
		want     any
		wantText string
	}{
		{"constant", setting.Value(2), setting.AtLeast(1), nil, 2, "2"},
		{"by family, the other", setting.Value(2).When(transformer, 4), setting.AtLeast(1), map[string]any{"model.family": "recurrent"}, 2, "2; transformer 4"},
		{"by family", setting.Value(2).When(transformer, 4), setting.AtLeast(1), map[string]any{"model.family": "transformer"}, 4, "2; transformer 4"},
		{"unknown family", setting.Value(2).When(transformer, 4), setting.AtLeast(1), map[string]any{"model.family": "state space"}, 2, "2; transformer 4"},
		{"nested", setting.Value(0).When(setting.Is("kind", "adam", "adamw"), setting.Value(0.002).When(transformer, 0.001)), setting.Natural,
			map[string]any{"kind": "adamw", "model.family": "transformer"}, 0.001, "0; adam and adamw 0.002 (transformer 0.001)"},
		{"the same as another", setting.SameAs("model.heads"), setting.AtLeast(1), map[string]any{"model.heads": int64(6)}, int64(6), "model.heads"},
		{"a multiple", setting.Times(8, 3, "model.embed", 32), setting.AtLeast(1), map[string]any{"model.embed": int64(128)}, int64(352),
			"8/3 x model.embed rounded up to a multiple of 32"},
		{"a condition on a number", setting.Value(6).When(setting.IsNot("train.steps", 0), 0), setting.AtLeast(0), map[string]any{"train.steps": int64(10)}, 0,
			"6; 0 with train.steps other than 0"},
		{"a word for a number", setting.Value("adaptive"), setting.FloatOr{Word: "adaptive", Numbers: setting.Positive}, nil, "adaptive", "adaptive"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.d.Value(lookup(test.others)); got != test.want {
				t.Errorf("value %v, want %v", got, test.want)
			}
			if got := test.d.Text(test.in); got != test.wantText {
				t.Errorf("text %q, want %q", got, test.wantText)
			}
		})
	}
}

func TestOver(t *testing.T) {
	family := func(values ...any) setting.Condition { return setting.Is("model.family", values...) }
	for _, test := range []struct {
		name string
		d    setting.Default
		want string
	}{
		{"constant", setting.Value(2), "2"},
		{"a base that no family has", setting.Value(0.1).When(family("recurrent"), 20).When(family("transformer"), 1), "20; transformer 1"},
		{"the same for all", setting.Value(0).When(family("recurrent"), 1).When(family("transformer"), 1), "1"},
		{"an exception", setting.Value(2).When(family("transformer"), 4), "2; transformer 4"},
		{"another key beside", setting.Value(2).When(setting.Is("model.mlp", "swiglu"), 4), "2; swiglu 4"},
	} {
		t.Run(test.name, func(t *testing.T) {
			over := test.d.Over("model.family", "recurrent", "transformer")
			if got := over.Text(setting.Natural); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			for _, f := range []string{"recurrent", "transformer"} {
				get := lookup(map[string]any{"model.family": f})
				if a, b := test.d.Value(get), over.Value(get); a != b {
					t.Errorf("%s: %v became %v", f, a, b)
				}
			}
		})
	}
}

func TestBind(t *testing.T) {
	var (
		word   string
		truth  bool
		narrow int
		wide   int64
		real   float64
		list   []int64
		span   time.Duration
	)
	for _, test := range []struct {
		name    string
		setting setting.Setting
		value   any
		shown   any
	}{
		{"string", setting.Bind(&word, setting.Declaration{Domain: setting.OneOf{"a"}}), "a", "a"},
		{"bool", setting.Bind(&truth, setting.Declaration{Domain: setting.Bool{}}), true, true},
		{"int", setting.Bind(&narrow, setting.Declaration{Domain: setting.AnyInt}), 3, int64(3)},
		{"int64", setting.Bind(&wide, setting.Declaration{Domain: setting.AnyInt}), 4, int64(4)},
		{"float64", setting.Bind(&real, setting.Declaration{Domain: setting.AnyReal}), 5, 5.0},
		{"list", setting.Bind(&list, setting.Declaration{Domain: setting.Ascending{}}), []int64{1, 2}, []int64{1, 2}},
		{"duration", setting.Bind(&span, setting.Declaration{Domain: setting.Duration{}}), 90 * time.Second, "1m30s"},
		{"kept by key", setting.Values{}.Bind("x", setting.Declaration{Domain: setting.AnyReal}), 6, 6.0},
	} {
		t.Run(test.name, func(t *testing.T) {
			if !test.setting.Set(test.value) || !cmp.Equal(test.setting.Get(), test.shown) {
				t.Errorf("set %v, got %v, want %v", test.value, test.setting.Get(), test.shown)
			}
			if test.setting.Set(struct{}{}) {
				t.Error("a value of another type was taken")
			}
		})
	}
	if word != "a" || !truth || narrow != 3 || wide != 4 || real != 5 || len(list) != 2 || span != 90*time.Second {
		t.Error("a variable does not have what its setting was set to")
	}
}

func TestComplete(t *testing.T) {
	declared := []setting.Declaration{
		{Key: "lr", Domain: setting.Positive, Default: setting.Value(1).When(setting.Is("model.family", "transformer"), 0.3)},
		{Key: "q", Domain: setting.Natural, Default: setting.SameAs("lr")},
	}
	family := lookup(map[string]any{"model.family": "transformer"})
	got, problems := setting.Values{}.Complete(declared, family)
	if diff := cmp.Diff(setting.Values{"lr": 0.3, "q": 0.3}, got); diff != "" || problems != nil {
		t.Errorf("%v (-want +got):\n%s", problems, diff)
	}
	given := setting.Values{"lr": -1, "beta": 2}
	_, problems = given.Complete(declared, nil)
	want := []setting.Problem{
		{Keys: []string{"beta"}, Text: "beta is not a setting of it"},
		{Keys: []string{"lr"}, Text: "lr is -1: it must be a number greater than 0"},
	}
	if diff := cmp.Diff(want, problems[:2]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, changed := given["q"]; changed {
		t.Error("Complete changed the values that it was given")
	}
}

func TestWithin(t *testing.T) {
	d := setting.Declaration{
		Key: "alpha_r", Domain: setting.Below1, Default: setting.SameAs("beta").When(setting.Is("model.family", "x"), setting.SameAs("gamma")),
		Only: []setting.Condition{setting.Is("kind", "a")},
		Idle: []setting.Idle{{When: []setting.Condition{setting.IsNot("r", "adaptive")}, Reason: "r is given"}},
	}.Within("optimizer")
	if d.Key != "optimizer.alpha_r" || d.Only[0].Key != "optimizer.kind" || d.Default.Text(d.Domain) != "optimizer.beta; x optimizer.gamma" {
		t.Errorf("got %+v, default %s", d, d.Default.Text(d.Domain))
	}
	fixed := lookup(map[string]any{"optimizer.r": 2.0, "optimizer.kind": "a"})
	if idle := d.IdleCase(fixed); idle == nil || idle.String() != "optimizer.r other than adaptive" {
		t.Errorf("beside a given r: %v", idle)
	}
	if adaptive := lookup(map[string]any{"optimizer.r": "adaptive"}); d.IdleCase(adaptive) != nil || d.Applies(adaptive) {
		t.Error("beside an adaptive r, and without kind a: the setting is idle, or applies")
	}
}
