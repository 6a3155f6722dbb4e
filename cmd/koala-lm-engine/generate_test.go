package main

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/cmd/internal/exit"
	"github.com/koala-lm/koala-lm/cmd/internal/request"
	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/data/tokenizer"
	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/lm/checkpoint"
	"github.com/koala-lm/koala-lm/lm/huggingface"
	"github.com/koala-lm/koala-lm/run"
)

// ask runs a verb of the engine in a new process and returns its output.
func ask(t testing.TB, verb string, r request.Request) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := request.Encode(r)
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd := exec.Command(self, verb, text)
	cmd.Env = append(os.Environ(), engineVariable+"=1")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", verb, err, &stderr)
	}
	return string(out)
}

// wide makes a model with large weights, so that every token of a prompt changes
// the continuation.
func wide(t testing.TB, c lm.Config) lm.Model {
	t.Helper()
	m, err := lm.New(c, 7, gotch.CPU)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	err = torch.Do(func(s *torch.Scope) error {
		if err := torch.Seed(7, 1, 0); err != nil {
			return err
		}
		s.NoGrad(func() {
			for _, p := range m.Params() {
				noise, most := s.ZerosLike(p.Tensor), 0.8
				if p.Role == lm.Vector {
					most = 0.1 // a larger bias decides alone
				}
				s.UniformInPlace(noise, -most, most)
				s.AddInPlace(p.Tensor, noise)
			}
		})
		return s.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// greedy continues a prompt by the likeliest tokens. It reads the whole text from
// its start for each token.
func greedy(t testing.TB, m lm.Model, prompt []int64, tokens int) (added []int64) {
	t.Helper()
	text := append([]int64(nil), prompt...)
	for range tokens {
		err := torch.Do(func(s *torch.Scope) error {
			s.NoGrad(func() {
				shape := []int64{1, int64(len(text))}
				if m.TimeMajor() {
					shape = []int64{int64(len(text)), 1}
				}
				state, err := m.NewState(1)
				if err != nil {
					s.Fail(err)
					return
				}
				defer state.Close()
				hidden := m.Forward(s, lm.Input{IDs: torch.FromSlice(s, text, shape...)}, state, lm.Evaluate).States
				last := m.Output().LogProbs(s, s.Narrow(hidden, 0, int64(len(text)-1), 1))
				if scores := torch.ToSlice[float32](s, last); s.OK() {
					text = append(text, int64((&lm.Sampler{}).Draw(scores, rand.New(rand.NewPCG(0, 0)))))
				}
			})
			return s.Err()
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return text[len(prompt):]
}

// A continuation depends on all tokens of its prompt, for every model and every
// source of weights.
func TestGenerateFollowsFromTheWholePrompt(t *testing.T) {
	w := newWorkshop(t)
	dataset, err := data.Open(w.data)
	if err != nil {
		t.Fatal(err)
	}
	defer dataset.Close()
	tok, err := dataset.Tokenizer()
	if err != nil {
		t.Fatal(err)
	}
	const tokens = 12
	// The prompts end in the same tokens.
	prompts := []string{"the koala sees the", "a koala sees the", "leaf tree sees the", "sees the"}
	for name, set := range map[string][]string{
		"lstm":  {"model.kind=lstm"},
		"gru":   {"model.kind=gru", "model.softmax=adaptive", "model.tied=false", "model.cutoffs=[4, 9]"},
		"gpt2":  {"model.kind=transformer", "model.context=32"},
		"llama": {"model.kind=transformer", "model.context=32", "model.norm=rms", "model.position=rotary", "model.mlp=swiglu", "model.kv_heads=2"},
		"mixed": {"model.kind=transformer", "model.context=32", "model.position=rotary", "model.softmax=adaptive", "model.tied=false", "model.cutoffs=[4, 9]"},
	} {
		t.Run(name, func(t *testing.T) {
			w := w.another(t)
			s := settings(t, append([]string{"model.layers=2", "model.embed=16", "train.steps=1", "optimizer.kind=sgd", "optimizer.lr=1e-9", "checkpoint.every=1"}, set...)...)
			m := wide(t, run.ModelConfig(s.Model, dataset.Vocab()))
			r := w.request(s, "")
			r.Init = filepath.Join(t.TempDir(), "wide.safetensors")
			if err := checkpoint.WriteWeights(r.Init, m); err != nil {
				t.Fatal(err)
			}
			w.train(r).mustEnd(t, exit.OK)
			trained, _ := w.run()
			models := map[string]request.Model{"run": {Run: trained.ID, Store: w.store, Runs: w.runs}}
			if name == "gpt2" || name == "llama" {
				folder := filepath.Join(t.TempDir(), "hf")
				if err := huggingface.Export(folder, m, tok, false); err != nil {
					t.Fatal(err)
				}
				models["folder"] = request.Model{Path: folder, Store: w.store, Runs: w.runs}
			}
			for from, model := range models {
				different := map[string]bool{}
				for _, prompt := range prompts {
					ids, err := run.PromptTokens(tok, prompt)
					if err != nil {
						t.Fatal(err)
					}
					want, stream := "", tokenizer.NewStream(tok, ids[len(ids)-1])
					for _, id := range greedy(t, m, ids, tokens) {
						want += stream.Next(uint32(id))
					}
					want += stream.Rest()
					var got sample
					out := ask(t, "generate", &request.Generate{
						Common: request.Common{Device: "cpu", Threads: 1}, Model: model, Prompt: prompt, Tokens: tokens, Count: 1, TopP: 1, Format: "json",
					})
					if err := json.Unmarshal([]byte(out), &got); err != nil {
						t.Fatal(err)
					}
					if got.Text != want {
						t.Errorf("%s: %q is followed by %q, want %q", from, prompt, got.Text, want)
					}
					different[got.Text] = true
				}
				if len(different) < 2 {
					t.Errorf("%s: %d prompts have %d continuations: the weights are too small for this test", from, len(prompts), len(different))
				}
			}
		})
	}
}

// A file's prompts are continued in their order, each as by itself; --log-probs gives each
// token's.
func TestGenerateFromAFile(t *testing.T) {
	w := newWorkshop(t)
	w.train(w.request(settings(t, "model.embed=16", "train.steps=3"), "")).mustEnd(t, exit.OK)
	trained, _ := w.run()
	r := request.Generate{
		Common: request.Common{Device: "cpu", Threads: 1}, Model: request.Model{Run: trained.ID, Store: w.store, Runs: w.runs},
		Tokens: 5, Count: 2, TopP: 1, Temperature: 1, Seed: 4, Format: "json", LogProbs: true,
	}
	// The second has so many more tokens than the others that it is in another batch.
	prompts := []string{"the koala", strings.Repeat("a koala sees the leaf ", 3), "a\tleaf", "sees \"the\" tree the koala sees"}
	var want, plain string
	for _, r.Prompt = range prompts {
		r.Format, r.LogProbs = "json", true
		want += ask(t, "generate", &r)
		r.Format, r.LogProbs = "text", false
		if plain != "" {
			plain += "\n---\n"
		}
		plain += ask(t, "generate", &r)
	}
	lines, objects := "", ""
	for _, prompt := range prompts {
		quoted, err := json.Marshal(prompt)
		if err != nil {
			t.Fatal(err)
		}
		lines, objects = lines+prompt+"\n\n", objects+`{"id": 7, "prompt": `+string(quoted)+"}\n"+string(quoted)+"\n"
	}
	r.Prompt, r.Prompts = "", filepath.Join(t.TempDir(), "plain.txt")
	if err := os.WriteFile(r.Prompts, []byte(lines), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, "generate", &r); got != plain {
		t.Errorf("as text it gives\n%swant\n%s", got, plain)
	}
	r.Format, r.LogProbs = "json", true
	for name, content := range map[string]string{"prompts.txt": lines, "prompts.jsonl": objects} {
		r.Prompts = filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(r.Prompts, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		got := ask(t, "generate", &r)
		if name == "prompts.jsonl" { // each prompt is there twice
			all := strings.SplitAfter(got, "\n")
			for got = ""; len(all) >= 4; all = all[4:] {
				if !sameSamples(t, all[0]+all[1], all[2]+all[3]) {
					t.Errorf("an object's prompt gives %s, the string %s", all[0], all[2])
				}
				got += all[0] + all[1]
			}
		}
		if !sameSamples(t, got, want) {
			t.Errorf("%s gives\n%swant\n%s", name, got, want)
		}
	}
	var one sample
	if err := json.Unmarshal([]byte(strings.SplitN(want, "\n", 2)[0]), &one); err != nil {
		t.Fatal(err)
	}
	if one.Tokens != len(one.IDs) || one.Tokens != len(one.LogProbs) || !(one.LogProbs[0] < 0) {
		t.Errorf("%+v: want an id and a log-probability for each token", one)
	}
	for content, want := range map[string]string{"": "has no prompt", "7\n": "line 1 is no prompt", "\"a\"\n{\"text\": 1}\n": "line 2 is no prompt", "\"a\xff\"": "line 1 is not UTF-8"} {
		path := filepath.Join(t.TempDir(), "p.jsonl")
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := readPrompts(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", content, err, want)
		}
	}
}

// sameSamples reports whether two texts of samples, a line each, are equal but for the
// rounding of log-probabilities: a batch of another size sums in another order on some
// CPUs.
func sameSamples(t *testing.T, a, b string) bool {
	t.Helper()
	read := func(text string) (all []sample) {
		for line := range strings.Lines(text) {
			var s sample
			if err := json.Unmarshal([]byte(line), &s); err != nil {
				t.Fatal(err)
			}
			all = append(all, s)
		}
		return all
	}
	return cmp.Equal(read(a), read(b), cmpopts.EquateApprox(0, 1e-5))
}

// Bytes that are no characters are U+FFFD in JSON, as in Python.
func TestJSONHasWholeCharacters(t *testing.T) {
	var out bytes.Buffer
	text := &sampled{ended: true}
	text.text.WriteString("a\xf2\x8a b\xe2\x82 c\xff\xfe é")
	s := &samples{w: &out, r: request.Generate{Format: "json", Count: 1}, texts: []*sampled{text}}
	if err := s.finish(text); err != nil {
		t.Fatal(err)
	}
	var got sample
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if want := "a\ufffd b\ufffd c\ufffd\ufffd é"; got.Text != want {
		t.Errorf("%q, want %q", got.Text, want)
	}
}

// A stop text is cut, however it is divided into tokens.
func TestStopTexts(t *testing.T) {
	for _, c := range []struct {
		name   string
		stop   []string
		pieces []string
		want   string
		ends   bool
	}{
		{"none", nil, []string{"a b", " c"}, "a b c", false},
		{"within a piece", []string{"END"}, []string{"a END b"}, "a ", true},
		{"over pieces", []string{"END"}, []string{"a E", "N", "D b"}, "a ", true},
		{"begins and does not come", []string{"END"}, []string{"a E", "N", "d b EN"}, "a ENd b EN", false},
		{"begins twice", []string{"aab"}, []string{"xa", "a", "a", "b"}, "xa", true},
		{"the first of two", []string{"b", "a b"}, []string{"x a ", "b"}, "x ", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, text := &samples{r: request.Generate{Stop: c.stop}}, &sampled{}
			got, ended := "", false
			for _, piece := range c.pieces {
				ready, ends := s.cut(text, piece)
				got += ready
				if ended = ends; ends {
					break
				}
			}
			if got += text.held; got != c.want || ended != c.ends {
				t.Errorf("%q, ended %v; want %q, %v", got, ended, c.want, c.ends)
			}
		})
	}
}
