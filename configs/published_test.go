package configs

import (
	"testing"

	"github.com/koala-lm/koala-lm/lm/huggingface/config"
)

// Presets of published models have the shapes of their config.json.
func TestPublishedShapes(t *testing.T) {
	for name, file := range map[string]string{
		"gpt2-124m": `{"model_type": "gpt2", "activation_function": "gelu_new", "layer_norm_epsilon": 1e-05, "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12,
			"n_positions": 1024, "vocab_size": 50257}`,
		"pythia-70m": `{"model_type": "gpt_neox", "hidden_act": "gelu", "hidden_size": 512, "intermediate_size": 2048, "layer_norm_eps": 1e-05, "max_position_embeddings": 2048,
			"num_attention_heads": 8, "num_hidden_layers": 6, "rotary_emb_base": 10000, "rotary_pct": 0.25, "tie_word_embeddings": false, "use_parallel_residual": true, "vocab_size": 50304}`,
		"smollm2-135m": `{"model_type": "llama", "hidden_act": "silu", "hidden_size": 576, "intermediate_size": 1536, "max_position_embeddings": 8192, "num_attention_heads": 9,
			"num_hidden_layers": 30, "num_key_value_heads": 3, "rms_norm_eps": 1e-05, "rope_theta": 100000, "tie_word_embeddings": true, "vocab_size": 49152}`,
	} {
		published, err := config.Parse([]byte(file))
		if err != nil {
			t.Fatal(err)
		}
		s := preset(t, name)
		s.Model.Vocab = published.Shape.Vocab
		if differs := config.Differences(published.Shape, s.Model); len(differs) > 0 {
			t.Errorf("%s: %q", name, differs)
		}
	}
}
