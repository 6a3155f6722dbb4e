package checkpoint

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/internal/safetensors"
	"github.com/koala-lm/koala-lm/lm"
)

// Recurrent models have the losses of docs/read_recurrent.py, which reads their files with
// PyTorch, and write files of the same layout (testdata/make_recurrent.py).
func TestRecurrentLayoutIsPyTorchs(t *testing.T) {
	content, err := os.ReadFile("testdata/recurrent.json")
	if err != nil {
		t.Fatal(err)
	}
	recorded := map[string]json.RawMessage{}
	if err := json.Unmarshal(content, &recorded); err != nil {
		t.Fatal(err)
	}
	var ids []uint32
	if err := json.Unmarshal(recorded["ids"], &ids); err != nil {
		t.Fatal(err)
	}
	layout := func(path string) map[string]string {
		r := must[*safetensors.Reader](t)(safetensors.Open(path))
		defer r.Close()
		all := map[string]string{}
		for _, info := range r.Tensors() {
			all[info.Name] = fmt.Sprint(info.DType, info.Shape)
		}
		return all
	}
	for name, config := range map[string]lm.Config{
		"lstm": {Kind: lm.LSTM}, "lstm-tied": {Kind: lm.LSTM, Tied: true}, "gru": {Kind: lm.GRU},
		"gru-adaptive": {Kind: lm.GRU, Softmax: lm.Adaptive, Cutoffs: []int64{10}},
	} {
		t.Run(name, func(t *testing.T) {
			config.Vocab, config.Layers, config.Embed, config.Hidden = 23, 2, 6, 8
			m := must[lm.Model](t)(lm.New(config, 1, gotch.CPU))
			defer m.Close()
			path := filepath.Join("testdata", "recurrent-"+name+".safetensors")
			if err := InitWeights(path, m); err != nil {
				t.Fatal(err)
			}
			batches := must[data.Batcher](t)(lm.Reading{Batch: 1, Length: 7}.Batches(m, data.NewTokens(ids)))
			got := must[lm.Result](t)(lm.EvaluateText(t.Context(), m, batches, gotch.CPU))
			var want float64
			if err := json.Unmarshal(recorded[name], &want); err != nil {
				t.Fatal(err)
			}
			if math.Abs(got.Nats-want) > 1e-5 {
				t.Errorf("the loss is %.6f, PyTorch has %.6f", got.Nats, want)
			}
			written := filepath.Join(t.TempDir(), "written.safetensors")
			if err := WriteWeights(written, m); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(layout(path), layout(written)); diff != "" {
				t.Errorf("(-PyTorch's +written):\n%s", diff)
			}
		})
	}
}
