package huggingface

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/data/tokenizer"
	"github.com/koala-lm/koala-lm/internal/atomicfile"
	"github.com/koala-lm/koala-lm/internal/safetensors"
	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/lm/huggingface/config"
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

// loss returns a model's loss on a fixed text.
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
			again, _, err := Open(folder, gotch.CPU)
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			if differs := config.Differences(c, again.Config()); len(differs) > 0 {
				t.Errorf("another shape was opened: %q", differs)
			}
			if a, b := loss(t, m), loss(t, again); a != b {
				t.Errorf("the loss was %v and is %v", a, b)
			}
			if tok, err := tokenizer.Load(filepath.Join(folder, config.TokenizerFile)); err != nil || tok.Vocab() != 7 {
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
	if err := Export(folder, newModel(t, likeGPT2), words(t), true); err == nil || !strings.Contains(err.Error(), "other files in it than a model's folder") {
		t.Errorf("over other files: %v", err)
	}
	if _, err := os.Stat(keep); err != nil {
		t.Error(err)
	}
	lstm := newModel(t, lm.Config{Kind: lm.LSTM, Vocab: 7, Layers: 1, Embed: 4, Hidden: 4})
	if err := Export(folder+"/x", lstm, words(t), false); err == nil || !strings.Contains(err.Error(), "lstm") {
		t.Errorf("an LSTM: %v", err)
	}
	mixed, adaptive := likeLlama, likeGPT2
	mixed.Position = lm.Learned
	adaptive.Tied, adaptive.Softmax, adaptive.Cutoffs = false, lm.Adaptive, []int64{2, 4}
	for want, c := range map[string]lm.Config{"position learned": mixed, "model.softmax is adaptive": adaptive} {
		if err := Export(folder+"/x", newModel(t, c), words(t), false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a model with %s: %v", want, err)
		}
	}
	if _, err := os.Stat(folder + "/x"); err == nil {
		t.Error("a refused export left a folder")
	}
}

// GPT-2's first files name tensors without the model's prefix, and hold masks.
func TestOpenFirstLayout(t *testing.T) {
	m, folder := newModel(t, likeGPT2), filepath.Join(t.TempDir(), "gpt2")
	if err := Export(folder, m, words(t), false); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, config.WeightsFile)
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
	again, _, err := Open(folder, gotch.CPU)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if a, b := loss(t, m), loss(t, again); a != b {
		t.Errorf("the loss was %v and is %v", a, b)
	}
}
