package huggingface

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/data/tokenizer"
	"github.com/koala-lm/koala-lm/internal/atomicfile"
	"github.com/koala-lm/koala-lm/internal/safetensors"
	"github.com/koala-lm/koala-lm/lm"
)

var (
	likeGPT2 = lm.Config{
		Kind: lm.Transformer, Vocab: 7, Layers: 2, Embed: 8, Hidden: 12, Tied: true,
		Heads: 2, KVHeads: 2, Context: 6, Norm: lm.LayerNorm, Position: lm.Learned, MLP: lm.GELU,
	}
	likeLlama = lm.Config{
		Kind: lm.Transformer, Vocab: 7, Layers: 2, Embed: 8, Hidden: 12,
		Heads: 4, KVHeads: 2, Context: 6, Norm: lm.RMSNorm, Position: lm.Rotary, MLP: lm.SwiGLU,
	}
)

func words(t *testing.T) tokenizer.Tokenizer {
	t.Helper()
	tok, err := tokenizer.NewWord([]string{"<unk>", "<eos>", "a", "b", "c", "d", "e"}, false)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// loss is a model's over a fixed text.
func loss(t *testing.T, m lm.Model) float64 {
	t.Helper()
	ids := make([]uint32, 60)
	for i := range ids {
		ids[i] = uint32(i * i % 7)
	}
	batches, err := data.NewSequential(data.NewTokens(ids), 3, int(m.Config().Context), data.Evaluation())
	if err != nil {
		t.Fatal(err)
	}
	r, err := lm.EvaluateText(context.Background(), m, batches, gotch.CPU)
	if err != nil {
		t.Fatal(err)
	}
	return r.Nats
}

func newModel(t *testing.T, c lm.Config) lm.Model {
	t.Helper()
	m, err := lm.New(c, 1, gotch.CPU)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func TestExportAndOpen(t *testing.T) {
	for name, c := range map[string]lm.Config{"gpt2": likeGPT2, "llama": likeLlama} {
		t.Run(name, func(t *testing.T) {
			m, folder := newModel(t, c), filepath.Join(t.TempDir(), "model")
			if err := Export(folder, m, words(t), false); err != nil {
				t.Fatal(err)
			}
			again, err := Open(folder, gotch.CPU)
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			if diff := cmp.Diff(c, again.Config()); diff != "" {
				t.Errorf("the shape (-exported +opened):\n%s", diff)
			}
			if a, b := loss(t, m), loss(t, again); a != b {
				t.Errorf("the loss was %v and is %v", a, b)
			}
			if tok, err := tokenizer.Load(filepath.Join(folder, TokenizerFile)); err != nil || tok.Vocab() != 7 {
				t.Errorf("tokenizer: %v", err)
			}
			if err := Export(folder, m, words(t), false); err == nil || !strings.Contains(err.Error(), "is there already") {
				t.Errorf("over it: %v", err)
			}
			if err := Export(folder, m, words(t), true); err != nil {
				t.Error(err)
			}
			left, err := os.ReadDir(filepath.Dir(folder))
			if err != nil || len(left) != 1 {
				t.Errorf("beside the folder there is something left: %v, %v", left, err)
			}
		})
	}
}

func TestExportRefuses(t *testing.T) {
	folder := t.TempDir()
	keep := filepath.Join(folder, "letter.txt")
	if err := os.WriteFile(keep, []byte("dear"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Export(folder, newModel(t, likeGPT2), words(t), true); err == nil || !strings.Contains(err.Error(), "no model's folder") {
		t.Errorf("over other files: %v", err)
	}
	if _, err := os.Stat(keep); err != nil {
		t.Error(err)
	}
	lstm := newModel(t, lm.Config{Kind: lm.LSTM, Vocab: 7, Layers: 1, Embed: 4, Hidden: 4})
	if err := Export(folder+"/x", lstm, words(t), false); err == nil || !strings.Contains(err.Error(), "lstm") {
		t.Errorf("an LSTM: %v", err)
	}
	mixed := likeLlama
	mixed.Position = lm.Learned
	if err := Export(folder+"/x", newModel(t, mixed), words(t), false); err == nil || !strings.Contains(err.Error(), "position learned") {
		t.Errorf("a mixed form: %v", err)
	}
}

func TestParseConfig(t *testing.T) {
	parse := func(changes map[string]any) (lm.Config, error) {
		config := map[string]any{
			"model_type": "gpt2", "vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12,
		}
		for key, value := range changes {
			config[key] = value
		}
		content, err := json.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		return ParseConfig(content)
	}
	c, err := parse(nil)
	want := lm.Config{
		Kind: lm.Transformer, Vocab: 50257, Layers: 12, Embed: 768, Hidden: 3072, Tied: true,
		Heads: 12, KVHeads: 12, Context: 1024, Norm: lm.LayerNorm, Position: lm.Learned, MLP: lm.GELU,
	}
	if diff := cmp.Diff(want, c); diff != "" || err != nil {
		t.Errorf("GPT-2 as published: %v\n%s", err, diff)
	}
	for _, bad := range []struct {
		change map[string]any
		want   string
	}{
		{map[string]any{"model_type": "bert"}, `model_type is "bert"`},
		{map[string]any{"activation_function": "relu"}, `activation_function is "relu"`},
		{map[string]any{"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon is 1e-06"},
		{map[string]any{"scale_attn_by_inverse_layer_idx": true}, "not scaled as usual"},
		{map[string]any{"n_embd": "wide"}, "n_embd"},
		{map[string]any{"model_type": "llama"}, "rms_norm_eps is 1e-06"},
		{map[string]any{"model_type": "llama", "rms_norm_eps": 1e-5, "rope_theta": 5e5}, "rope_theta is 500000"},
		{map[string]any{"model_type": "llama", "rms_norm_eps": 1e-5, "attention_bias": true}, "biases"},
		{map[string]any{"model_type": "llama", "rms_norm_eps": 1e-5, "rope_scaling": map[string]any{"factor": 2}}, "positions are scaled"},
	} {
		if _, err := parse(bad.change); err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%v: %v, want %q", bad.change, err, bad.want)
		}
	}
	if _, err := ParseConfig([]byte("{")); err == nil {
		t.Error("half a file was taken")
	}
}

func FuzzParseConfig(f *testing.F) {
	for _, c := range []lm.Config{likeGPT2, likeLlama} {
		described, err := describe(c, nil)
		if err != nil {
			f.Fatal(err)
		}
		content, err := json.Marshal(described)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		_, _ = ParseConfig(content)
	})
}

// GPT-2's first files name tensors without the model's prefix, and hold masks.
func TestOpenFirstLayout(t *testing.T) {
	m, folder := newModel(t, likeGPT2), filepath.Join(t.TempDir(), "gpt2")
	if err := Export(folder, m, words(t), false); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, WeightsFile)
	r, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	mask := safetensors.Info{Name: "h.0.attn.bias", DType: safetensors.U8, Shape: []int64{1, 1, 2, 2}}
	tensors := []safetensors.Tensor{{Info: mask, Data: bytes.NewReader([]byte{1, 0, 1, 1})}}
	for _, info := range r.Tensors() {
		n, err := info.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		content := make([]byte, n)
		if err := r.Read(info.Name, content); err != nil {
			t.Fatal(err)
		}
		info.Name = strings.TrimPrefix(info.Name, "transformer.")
		tensors = append(tensors, safetensors.Tensor{Info: info, Data: bytes.NewReader(content)})
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	err = atomicfile.Write(path, func(w io.Writer) error { return safetensors.Write(w, nil, tensors) })
	if err != nil {
		t.Fatal(err)
	}
	again, err := Open(folder, gotch.CPU)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if a, b := loss(t, m), loss(t, again); a != b {
		t.Errorf("the loss was %v and is %v", a, b)
	}
}
