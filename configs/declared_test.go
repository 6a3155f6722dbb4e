package configs

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/koala-lm/koala-lm/internal/setting"
	"github.com/koala-lm/koala-lm/lm/spec"
)

// combinations returns settings, as assignments, that combine every kind of model
// with every kind of optimizer, output layer and schedule.
func combinations() [][]string {
	words := func(key string) []string {
		d, _ := declaration(key)
		return d.Domain.Words()
	}
	var list [][]string
	for _, model := range words("model.kind") {
		for _, key := range []string{"optimizer.kind", "model.softmax", "schedule.kind"} {
			for _, kind := range words(key) {
				list = append(list, []string{"model.kind=" + model, key + "=" + kind})
			}
		}
	}
	for _, scaling := range words("model.rotary.scaling") {
		set := []string{"model.kind=transformer", "model.window=8", "model.position=rotary", "model.rotary.scaling=" + scaling}
		if scaling != spec.NoScaling {
			set = append(set, "model.rotary.factor=4")
		}
		list = append(list, set)
	}
	for _, average := range words("train.average") {
		list = append(list, []string{"train.average=" + average})
	}
	return list
}

// others returns values of a domain, as text. Some of them differ from now.
func others(d setting.Domain, now any) []string {
	var list []string
	for _, text := range slices.Concat(d.Words(), []string{"true", "false", "0.5", "0.25", "0.05", "2", "1", "3", "[5, 10]", "[1, 2]", "90s"}) {
		var l setting.Literal
		if strings.HasPrefix(text, "[") {
			l.IsList = true
			for item := range strings.SplitSeq(strings.Trim(text, "[]"), ", ") {
				l.List = append(l.List, setting.Literal{Text: item})
			}
		} else {
			l.Text = text
		}
		if v, ok := d.Parse(l); ok && setting.Text(d.Show(v)) != setting.Text(now) {
			list = append(list, text)
		}
	}
	return list
}

func try(assignments ...string) (Settings, error) {
	var b Builder
	for _, a := range assignments {
		b.Assign(a, "--set")
	}
	return b.Settings()
}

// leaves lists the fields of settings that hold one value, by path.
func leaves(s Settings) map[string]string {
	found := map[string]string{}
	var walk func(path string, v reflect.Value)
	walk = func(path string, v reflect.Value) {
		switch v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				walk(path+"."+v.Type().Field(i).Name, v.Field(i))
			}
		case reflect.Map:
			for _, key := range v.MapKeys() {
				found[path+"."+key.String()] = fmt.Sprint(v.MapIndex(key).Interface())
			}
		default:
			found[path] = fmt.Sprint(v.Interface())
		}
	}
	walk("", reflect.ValueOf(s))
	return found
}

// Every setting, in every combination in which it exists, changes the packages'
// configuration, and every field of that configuration is changed by a setting.
func TestEverySettingChangesTheConfiguration(t *testing.T) {
	changed := map[string]bool{} // leaves
	tried := map[string]bool{}   // keys
	all := map[string]bool{}
	for _, combination := range combinations() {
		before, err := try(combination...)
		if err != nil {
			t.Fatalf("%q: %v", combination, err)
		}
		old := leaves(before)
		for leaf := range old {
			all[leaf] = true
		}
		for _, kv := range before.Flat() {
			d, _ := declaration(kv.Key)
			accepted := false
			for _, text := range others(d.Domain, kv.Value) {
				after, err := try(append(combination, kv.Key+"="+text)...)
				if err != nil {
					continue
				}
				accepted = true
				now := leaves(after)
				if cmp.Equal(old, now) {
					t.Errorf("%q: %s=%s changes nothing", combination, kv.Key, text)
				}
				for leaf, value := range now {
					if was, existed := old[leaf]; !existed || was != value {
						changed[leaf] = true
					}
				}
				break
			}
			tried[kv.Key] = tried[kv.Key] || accepted
		}
	}
	for _, key := range Keys() {
		// Two settings have an effect only together with another one.
		if !tried[key] && key != "optimizer.nesterov" && key != "optimizer.decay_in_step" {
			t.Errorf("%s was not changed in any combination", key)
		}
	}
	beside := [][]string{{"optimizer.kind=sgd", "optimizer.momentum=0.9", "optimizer.nesterov=true"}, {"optimizer.kind=koala-v", "optimizer.weight_decay=1", "optimizer.decay_in_step=true"}}
	for _, set := range beside {
		s := build(t, set...)
		key := strings.TrimPrefix(strings.TrimSuffix(set[len(set)-1], "=true"), "optimizer.")
		if !s.Optimizer.Bool(key) {
			t.Errorf("%q: %s is false", set, key)
		}
		changed[".Optimizer.Values."+key] = true
	}
	for leaf := range all {
		if !changed[leaf] {
			t.Errorf("no setting changes the field %s", leaf)
		}
	}
}

// The declarations hold together: a key comes once, and after the ones that its
// default depends on.
func TestDeclarations(t *testing.T) {
	seen := map[string]bool{spec.FamilyKey: true}
	for _, d := range declared().list {
		if seen[d.Key] {
			t.Errorf("%s is declared twice", d.Key)
		}
		if d.Meaning == "" || strings.ContainsAny(d.Meaning, "\n") {
			t.Errorf("%s has the meaning %q, want one line", d.Key, d.Meaning)
		}
		if !slices.Contains(sectionNames, sectionOf(d.Key)) {
			t.Errorf("%s is of no section that is listed", d.Key)
		}
		for _, other := range Keys() {
			if d.Default.DependsOn(other) && !seen[other] {
				t.Errorf("the default of %s depends on %s, which is declared after it", d.Key, other)
			}
		}
		for _, c := range d.Only {
			checkCondition(t, d.Key, c)
			if !seen[c.Key] {
				t.Errorf("%s depends on %s, which is declared after it", d.Key, c.Key)
			}
		}
		for _, idle := range d.Idle {
			for _, c := range idle.When {
				checkCondition(t, d.Key, c)
			}
		}
		seen[d.Key] = true
	}
	for _, combination := range combinations() {
		s := build(t, combination...)
		for _, kv := range s.Flat() {
			d, _ := declaration(kv.Key)
			if _, ok := d.Domain.Accept(kv.Value); !ok && kv.Key != "train.time_limit" && kv.Key != "checkpoint.interval" {
				t.Errorf("%q: the default of %s, %v, is not %s", combination, kv.Key, kv.Value, d.Domain)
			}
		}
	}
}

// checkCondition requires the values of a condition to be in the domain of its key.
func checkCondition(t *testing.T, of string, c setting.Condition) {
	t.Helper()
	d, ok := declaration(c.Key)
	if !ok {
		t.Errorf("%s has a condition on %s, which is not declared", of, c.Key)
		return
	}
	for _, v := range c.In {
		if _, ok := d.Domain.Accept(v); !ok {
			t.Errorf("%s has the condition %s: %v is not %s", of, c, v, d.Domain)
		}
	}
}

// segment is a part of a default's text: "adam and adamw 0.002 (transformer 0.001)".
var segment = regexp.MustCompile(`^(?:(.+?) )??([^ ()]+)(?: \(([^ ]+) ([^ ()]+)\))?$`)

// fromText reads the default for some words (kinds, family) from the reference's
// text.
func fromText(text string, words []string) (value string, ok bool) {
	for part := range strings.SplitSeq(text, "; ") {
		m := segment.FindStringSubmatch(part)
		if m == nil {
			return "", false // a formula
		}
		if m[1] != "" && !slices.ContainsFunc(strings.Split(m[1], " and "), func(word string) bool { return slices.Contains(words, word) }) {
			continue
		}
		value, ok = m[2], true
		if m[3] != "" && slices.Contains(words, m[3]) {
			value = m[4]
		}
	}
	return value, ok
}

// A run gets the defaults that the reference states.
func TestDefaultTexts(t *testing.T) {
	read := 0
	for _, combination := range combinations() {
		s := build(t, combination...)
		words := []string{s.Model.Kind, s.Model.Softmax, s.Optimizer.Kind, s.Schedule.Kind, string(s.Model.KindOf().Family)}
		values := map[string]any{}
		for _, kv := range s.Flat() {
			values[kv.Key] = kv.Value
		}
		for _, e := range Reference() {
			got, exists := values[e.Key]
			want, readable := fromText(e.Default, words)
			if !exists || !readable || slices.ContainsFunc(combination, func(a string) bool { return strings.HasPrefix(a, e.Key+"=") }) {
				continue
			}
			if strings.HasPrefix(want, "model.") { // equals another setting's default
				want = Text(values[want])
			}
			read++
			if Text(got) != want {
				t.Errorf("%q: %s is %v, and the reference says %s (%q)", combination, e.Key, got, want, e.Default)
			}
		}
	}
	if least := 30 * len(combinations()); read < least {
		t.Errorf("only %d defaults were read off the reference, want at least %d", read, least)
	}
}

// A setting without effect in a combination is refused, unless its value means no
// effect, or a later source makes the combination.
func TestSettingsWithoutEffect(t *testing.T) {
	oneLayer := []string{"model.layers=1"}
	for _, test := range []struct {
		name string
		set  []string
		want string // "" if the value is accepted
	}{
		{"hidden of one tied layer", append(oneLayer, "model.hidden=64"),
			"--set: model.hidden 64 has no effect with model.kind lstm or gru and model.layers 1 and model.tied true: the only layer has model.embed units, as the output layer shares the embedding's weights"},
		{"hidden of one tied layer as it is", append(oneLayer, "model.hidden=200"), ""},
		{"hidden of one untied layer", append(oneLayer, "model.hidden=64", "model.tied=false"), ""},
		{"hidden of one layer of a gru", append(oneLayer, "model.hidden=64", "model.kind=gru"), "--set: model.hidden 64 has no effect"},
		{"hidden of a Transformer's one layer", append(oneLayer, "model.hidden=64", "model.kind=transformer"), ""},
		{"dropout between the layers of one", append(oneLayer, "model.dropout.hidden=0.2"), "--set: model.dropout.hidden 0.2 has no effect with model.kind lstm or gru and model.layers 1"},
		{"no dropout between the layers of one", append(oneLayer, "model.dropout.hidden=0"), ""},
		{"locked masks of no dropout", []string{"model.dropout={}", "model.dropout.locked=true"}, "--set: model.dropout is a section"},
		{"locked masks without dropout", []string{"model.dropout.input=0", "model.dropout.hidden=0", "model.dropout.output=0", "model.dropout.locked=true"},
			"--set: model.dropout.locked true has no effect with model.dropout.input 0 and model.dropout.hidden 0 and model.dropout.output 0: no elements are dropped"},
		{"decay in a step without decay", []string{"optimizer.kind=koala-v", "optimizer.decay_in_step=true"}, "--set: optimizer.decay_in_step true has no effect with optimizer.weight_decay 0"},
		{"memory of a fixed variance", []string{"optimizer.r=2", "optimizer.alpha_r=0.5"}, "--set: optimizer.alpha_r 0.5 has no effect with optimizer.r other than adaptive"},
		{"decay of a constant schedule", []string{"schedule.gamma=0.5"}, "--set: schedule.gamma is for schedule.kind step or plateau, not constant"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := try(test.set...)
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
	t.Run("a later source makes the combination", func(t *testing.T) {
		var b Builder
		b.Preset("awd-lstm-wt2")
		b.Assign("model.layers=1", "--set")
		s, err := b.Settings()
		if err != nil || s.Model.Hidden != 400 || s.Model.Dropout.Hidden != 0 {
			t.Errorf("hidden %d, dropout %v, %v", s.Model.Hidden, s.Model.Dropout, err)
		}
	})
	t.Run("recorded by an earlier version", func(t *testing.T) {
		recorded := `{"model.layers":1,"model.hidden":64,"model.dropout.hidden":0.2,"optimizer.kind":"koala-v","optimizer.decay_in_step":true}`
		var s Settings
		if err := s.UnmarshalJSON([]byte(recorded)); err != nil || s.Model.Hidden != 64 || s.Model.Dropout.Hidden != 0.2 {
			t.Errorf("hidden %d, dropout %v, %v", s.Model.Hidden, s.Model.Dropout, err)
		}
		var b Builder
		b.Values("run 1", map[string]any{"model.layers": int64(1), "model.hidden": int64(64)})
		if s, err := b.Settings(); err != nil || s.Model.Hidden != 64 {
			t.Errorf("hidden %d, %v", s.Model.Hidden, err)
		}
	})
}

// A run that was recorded before a setting existed keeps its behaviour.
func TestRecordedBeforeASettingExisted(t *testing.T) {
	var s Settings
	recorded := `{"optimizer.kind":"koala-d","optimizer.weight_decay":0.1}`
	if err := s.UnmarshalJSON([]byte(recorded)); err != nil || !s.Optimizer.Bool("decay_norms") {
		t.Errorf("%v: recorded without decay_norms, koala-d decays norms no more", err)
	}
	var b Builder
	b.Values("run 1", map[string]any{"optimizer.kind": "koala-d", "optimizer.weight_decay": 0.1})
	if s, err := b.Settings(); err != nil || !s.Optimizer.Bool("decay_norms") {
		t.Errorf("%v: recorded without decay_norms, koala-d decays norms no more", err)
	}
	if s := build(t, "optimizer.kind=koala-d", "optimizer.weight_decay=0.1"); s.Optimizer.Bool("decay_norms") {
		t.Error("a new run of koala-d decays norms")
	}
	again, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var copied Settings
	if err := json.Unmarshal(again, &copied); err != nil || !cmp.Equal(s, copied) {
		t.Errorf("%v: changed by a round trip: %v", err, cmp.Diff(s, copied))
	}
}
