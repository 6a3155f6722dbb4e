package config

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/koala-lm/koala-lm/internal/safetensors"
	"github.com/koala-lm/koala-lm/lm/spec"
)

// parse reads a config.json of these fields.
func parse(t *testing.T, fields map[string]any) (Model, error) {
	t.Helper()
	content, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return Parse(content)
}

// Absent fields have the values of transformers' classes.
func TestPublishedModels(t *testing.T) {
	for _, c := range []struct {
		name   string
		fields map[string]any
		want   spec.Model
	}{
		{"GPT-2", map[string]any{"model_type": "gpt2"}, spec.Model{
			Vocab: 50257, Layers: 12, Embed: 768, Hidden: 3072, Tied: true, Heads: 12, KVHeads: 12, Context: 1024,
			Norm: spec.LayerNorm, Position: spec.Learned, MLP: spec.GELU, Architecture: spec.Architecture{HeadWidth: 64, NormEps: 1e-5, Biases: spec.AllBiases},
		}},
		{"SmolLM2 135M", map[string]any{
			"model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
			"num_attention_heads": 9, "num_key_value_heads": 3, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 100000,
			"rope_scaling": nil, "rope_interleaved": false, "tie_word_embeddings": true, "torch_dtype": "bfloat16", "pretraining_tp": 1,
		}, spec.Model{
			Vocab: 49152, Layers: 30, Embed: 576, Hidden: 1536, Tied: true, Heads: 9, KVHeads: 3, Context: 8192,
			Norm: spec.RMSNorm, Position: spec.Rotary, MLP: spec.SwiGLU, Architecture: spec.Architecture{
				HeadWidth: 64, NormEps: 1e-5, Biases: spec.NoBiases, Rotary: spec.Rotations{Base: 100000, Share: 1, Scaling: spec.NoScaling},
			},
		}},
		{"Pythia 70M", map[string]any{
			"model_type": "gpt_neox", "vocab_size": 50304, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 6,
			"num_attention_heads": 8, "max_position_embeddings": 2048, "rotary_pct": 0.25, "rotary_emb_base": 10000, "use_parallel_residual": true,
		}, spec.Model{
			Vocab: 50304, Layers: 6, Embed: 512, Hidden: 2048, Heads: 8, KVHeads: 8, Context: 2048,
			Norm: spec.LayerNorm, Position: spec.Rotary, MLP: "gelu-exact", Architecture: spec.Architecture{
				HeadWidth: 64, NormEps: 1e-5, Biases: spec.AllBiases, Parallel: true, Rotary: spec.Rotations{Base: 10000, Share: 0.25, Scaling: spec.NoScaling},
			},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parse(t, c.fields)
			if err != nil {
				t.Fatal(err)
			}
			c.want.Kind, c.want.Softmax = spec.Transformer, spec.Full
			if diff := cmp.Diff(c.want, got.Shape); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Fields under two names, and names that belong to another family, as transformers 5.23
// reads them.
func TestNamesOfFields(t *testing.T) {
	for name, c := range map[string][2]map[string]any{
		"GPT-2's attribute_map": {
			{"model_type": "gpt2", "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 8, "max_position_embeddings": 32},
			{"model_type": "gpt2", "n_embd": 64, "n_layer": 3, "n_head": 8, "n_positions": 32},
		},
		"two names at once":             {{"model_type": "gpt2", "n_head": 8, "num_attention_heads": 4}, {"model_type": "gpt2", "n_head": 4}},
		"GPT-NeoX's rotary_emb_base":    {{"model_type": "gpt_neox", "rotary_emb_base": 500, "rope_theta": 7}, {"model_type": "gpt_neox", "rope_parameters": map[string]any{"rope_theta": 500}}},
		"GPT-NeoX's rotary_pct":         {{"model_type": "gpt_neox", "rotary_pct": 0.5, "partial_rotary_factor": 1}, {"model_type": "gpt_neox", "rope_parameters": map[string]any{"partial_rotary_factor": 0.5}}},
		"GPT-NeoX's fields in LLaMA":    {{"model_type": "llama", "rotary_emb_base": 500, "rotary_pct": 0.5}, {"model_type": "llama"}},
		"Mistral's sliding_window":      {{"model_type": "mistral", "num_hidden_layers": 2, "sliding_window": 8, "layer_types": []string{"sliding_attention", "sliding_attention"}}, {"model_type": "mistral", "num_hidden_layers": 2, "sliding_window": 8}},
		"Mistral's layers of one kind":  {{"model_type": "mistral", "num_hidden_layers": 2, "layer_types": []string{"full_attention", "full_attention"}}, {"model_type": "mistral", "num_hidden_layers": 2, "sliding_window": nil}},
		"Mistral's layers of two kinds": {{"model_type": "mistral", "num_hidden_layers": 2, "num_key_value_heads": 32, "sliding_window": 8, "intermediate_size": 11008, "max_position_embeddings": 2048, "layer_types": []string{"full_attention", "sliding_attention"}}, {"model_type": "smollm3", "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 2, "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 2048, "tie_word_embeddings": false, "rope_theta": 10000, "no_rope_layers": []int{1, 1}, "use_sliding_window": true, "sliding_window": 8, "layer_types": []string{"full_attention", "sliding_attention"}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parse(t, c[0])
			if err != nil {
				t.Fatal(err)
			}
			want, err := parse(t, c[1])
			if diff := cmp.Diff(want.Shape, got.Shape); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestEndsAreOneOrMany(t *testing.T) {
	for _, c := range []struct {
		eos  any
		want []int64
	}{{nil, nil}, {7, []int64{7}}, {[]int{7, 9}, []int64{7, 9}}, {-1, nil}} {
		m, err := parse(t, map[string]any{"model_type": "llama", "eos_token_id": c.eos})
		if diff := cmp.Diff(c.want, m.EOS); diff != "" || err != nil {
			t.Errorf("%v: %v %s", c.eos, err, diff)
		}
	}
}

// A model that package lm cannot compute is refused by the field's name and value.
func TestRefusals(t *testing.T) {
	rope := func(fields map[string]any) map[string]any {
		return map[string]any{"model_type": "llama", "rope_scaling": fields}
	}
	for want, fields := range map[string]map[string]any{
		`model_type is "bert": it must be gpt2, llama`:               {"model_type": "bert"},
		`model_type is null`:                                         {},
		`activation_function is "prelu", not one of`:                 {"model_type": "gpt2", "activation_function": "prelu"},
		`hidden_act is "xielu", not one of`:                          {"model_type": "llama", "hidden_act": "xielu"},
		`scale_attn_weights is false`:                                {"model_type": "gpt2", "scale_attn_weights": false},
		`scale_attn_by_inverse_layer_idx is true`:                    {"model_type": "gpt2", "scale_attn_by_inverse_layer_idx": true},
		`n_embd is "wide", not a whole number`:                       {"model_type": "gpt2", "n_embd": "wide"},
		`n_layer is 1.5, not a whole number`:                         {"model_type": "gpt2", "n_layer": json.Number("1.5")},
		`n_layer is 99999999999, not a whole number`:                 {"model_type": "gpt2", "n_layer": 99999999999},
		`model.layers is 2147483647: it must be`:                     {"model_type": "gpt2", "n_layer": 2147483647},
		`tie_word_embeddings is "yes", not true or false`:            {"model_type": "llama", "tie_word_embeddings": "yes"},
		`eos_token_id is ["a"], not token ids`:                       {"model_type": "llama", "eos_token_id": []string{"a"}},
		`quantization_config is {"bits":4}, which is not supported`:  {"model_type": "llama", "quantization_config": map[string]any{"bits": 4}},
		`partial_rotary_factor is 0.5`:                               {"model_type": "llama", "partial_rotary_factor": 0.5},
		`rope_scaling.rope_type is "longrope", not default`:          rope(map[string]any{"rope_type": "longrope"}),
		`rope_scaling.type is "su", not default`:                     rope(map[string]any{"type": "su"}),
		`rope_scaling.factor is null, not a number above 0`:          rope(map[string]any{"type": "linear"}),
		`rope_scaling.factor is "2", not a number`:                   rope(map[string]any{"type": "linear", "factor": "2"}),
		`rope_scaling.high_freq_factor is 1, not above`:              rope(map[string]any{"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 1}),
		`layer_types is ["chunked_attention"], and there is no slid`: {"model_type": "qwen2", "num_hidden_layers": 1, "layer_types": []string{"chunked_attention"}},
		`layer_types is [], not of 36 layers`:                        {"model_type": "smollm3", "layer_types": []string{}},
		`no_rope_layers is [1], not of 36 layers`:                    {"model_type": "smollm3", "no_rope_layers": []int{1}},
		`no_rope_layers is [false], not whole numbers`:               {"model_type": "smollm3", "num_hidden_layers": 1, "no_rope_layers": []bool{false}},
		`no_rope_layer_interval is null, not a whole`:                {"model_type": "smollm3", "no_rope_layer_interval": nil},
		`hidden_size is 4096.0, not a whole number`:                  {"model_type": "llama", "hidden_size": json.Number("4096.0")},
		`hidden_size is null, not a whole number`:                    {"model_type": "llama", "hidden_size": nil},
		`eos_token_id is 0.0, not token ids`:                         {"model_type": "llama", "eos_token_id": json.Number("0.0")},
		`tie_word_embeddings is null, not true or false`:             {"model_type": "llama", "tie_word_embeddings": nil},
		`scale_attn_by_inverse_layer_idx is null, not true`:          {"model_type": "gpt2", "scale_attn_by_inverse_layer_idx": nil},
		`rms_norm_eps is null, not a number such as 1e-5`:            {"model_type": "llama", "rms_norm_eps": nil},
		`rms_norm_eps is 1, not a number such as 1e-5`:               {"model_type": "llama", "rms_norm_eps": 1},
		`max_window_layers is "1", not a whole number`:               {"model_type": "qwen2", "max_window_layers": "1"},
		`rope_theta is null, not a number above 0`:                   {"model_type": "llama", "rope_theta": nil},
		`rope_scaling.rope_theta is 0, not a number above 0`:         rope(map[string]any{"type": "default", "rope_theta": 0}),
		`rotary_pct is 0, not a number above 0`:                      {"model_type": "gpt_neox", "rotary_pct": 0},
		`rope_scaling.factor is null, not`:                           rope(map[string]any{"type": "yarn", "original_max_position_embeddings": 64}),
		`rope_scaling.attention_factor is 0, not`:                    rope(map[string]any{"type": "yarn", "factor": 2, "attention_factor": 0}),
		`rope_scaling.original_max_position_embeddings is null`:      rope(map[string]any{"type": "yarn", "factor": 2, "original_max_position_embeddings": nil}),
		`quantization_config is false, which is not supported`:       {"model_type": "llama", "quantization_config": false},
		`model.heads 7 must divide model.embed 4096`:                 {"model_type": "gpt_neox", "hidden_size": 4096, "num_attention_heads": 7},
	} {
		if _, err := parse(t, fields); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v:\n%v, want %q", fields, err, want)
		}
	}
	if _, err := Parse([]byte("{")); err == nil {
		t.Error("half a file was taken")
	}
}

// Every problem is named at once.
func TestAllProblems(t *testing.T) {
	_, err := parse(t, map[string]any{"model_type": "llama", "hidden_act": "prelu", "quantization_config": true, "rope_scaling": 3})
	for _, want := range []string{"hidden_act", "quantization_config", "rope_scaling"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}

// files makes a folder with a config.json and weights of these shapes in each file.
func files(t *testing.T, fields map[string]any, weights map[string]map[string][]int64) string {
	t.Helper()
	folder := t.TempDir()
	content, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(folder, File), content)
	for name, shapes := range weights {
		var tensors []safetensors.Tensor
		for tensor, shape := range shapes {
			info := safetensors.Info{Name: tensor, DType: safetensors.U8, Shape: shape}
			n, err := info.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			tensors = append(tensors, safetensors.Tensor{Info: info, Data: bytes.NewReader(make([]byte, n))})
		}
		var file bytes.Buffer
		if err := safetensors.Write(&file, nil, tensors); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(folder, name), file.Bytes())
	}
	return folder
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestFolders(t *testing.T) {
	fields := map[string]any{"model_type": "llama", "vocab_size": 5, "hidden_size": 4, "intermediate_size": 3, "num_hidden_layers": 1, "num_attention_heads": 2}
	shapes := map[string][]int64{
		"model.embed_tokens.weight": {5, 4}, "model.layers.0.self_attn.q_proj.weight": {4, 4}, "model.layers.0.mlp.up_proj.weight": {3, 4},
	}
	one := map[string]map[string][]int64{WeightsFile: shapes}
	f, err := Open(files(t, fields, one))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	index := func(text string) func(folder string) {
		return func(folder string) { write(t, filepath.Join(folder, WeightsIndexFile), []byte(text)) }
	}
	for want, make := range map[string]func() string{
		"has 0 .safetensors files": func() string { return files(t, fields, nil) },
		"holds a pickle": func() string {
			folder := files(t, fields, nil)
			write(t, filepath.Join(folder, "pytorch_model.bin"), nil)
			return folder
		},
		"model.embed_tokens.weight is [5 4], and it says [6 4]": func() string {
			other := map[string]any{}
			for key, v := range fields {
				other[key] = v
			}
			other["vocab_size"] = 6
			return files(t, other, one)
		},
		"model.layers.1.": func() string {
			other := map[string]any{}
			for key, v := range fields {
				other[key] = v
			}
			other["num_hidden_layers"] = 2
			return files(t, other, one)
		},
		"is not a .safetensors file of the folder": func() string {
			folder := files(t, fields, one)
			index(`{"weight_map": {"a": "../model.safetensors"}}`)(folder)
			return folder
		},
		"names no tensor": func() string {
			folder := files(t, fields, one)
			index(`{}`)(folder)
			return folder
		},
		"no such file": func() string {
			folder := files(t, fields, one)
			index(`{"weight_map": {"a": "model-00001-of-00002.safetensors"}}`)(folder)
			return folder
		},
	} {
		f, err := Open(make())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		if err == nil {
			_ = f.Close()
		}
	}
}

// A model that no family has is refused with what differs from the nearest family.
func TestDescribeNamesWhatDiffers(t *testing.T) {
	for want, fields := range map[string]map[string]any{
		`(model.head_width is 6, and gpt_neox's is 8)`: {"model_type": "gpt_neox", "hidden_size": 32, "num_attention_heads": 4},
	} {
		m, err := parse(t, fields)
		if err != nil {
			t.Fatal(err)
		}
		m.Shape.Architecture.HeadWidth = 6
		if _, _, err := Describe(m.Shape); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", fields["model_type"], err, want)
		}
	}
	softmax := func() error {
		m, _ := parse(t, map[string]any{"model_type": "gpt2"})
		m.Shape.Softmax, m.Shape.Tied = spec.Adaptive, false
		_, _, err := Describe(m.Shape)
		return err
	}
	if err := softmax(); err == nil || !strings.Contains(err.Error(), "model.softmax is adaptive") {
		t.Errorf("adaptive softmax: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, of := range families {
		for _, fields := range []map[string]any{of.defaults, {"rope_parameters": map[string]any{"rope_type": "yarn", "factor": 2}}} {
			all := map[string]any{"model_type": of.name}
			for key, v := range fields {
				all[key] = v
			}
			content, err := json.Marshal(all)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(content)
		}
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		m, err := Parse(content)
		if err != nil {
			return
		}
		// Reading, writing and reading again gives the same model.
		if _, again, err := Describe(m.Shape); err == nil {
			if differs := Differences(m.Shape, again.Shape); len(differs) > 0 {
				t.Errorf("%q", differs)
			}
		}
	})
}
