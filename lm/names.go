package lm

import "fmt"

// names are what a Transformer's tensors are called: as in Hugging Face's
// GPT2LMHeadModel for that form, else as in LlamaForCausalLM.
type names struct {
	embedding, positions, norm string
	blocks                     string // with the block's number
	in                         blockNames
}

// blockNames are a block's, without .weight and .bias. qkv is empty where
// queries, keys and values are layers of their own.
type blockNames struct {
	attentionNorm, qkv, query, key, value, out string
	mlpNorm, gate, up, down                    string
}

var gpt2Names = names{
	embedding: "transformer.wte.weight", positions: "transformer.wpe.weight", norm: "transformer.ln_f", blocks: "transformer.h.%d.",
	in: blockNames{
		attentionNorm: "ln_1", qkv: "attn.c_attn", out: "attn.c_proj",
		mlpNorm: "ln_2", up: "mlp.c_fc", down: "mlp.c_proj",
	},
}

var llamaNames = names{
	embedding: "model.embed_tokens.weight", positions: "model.embed_positions.weight", norm: "model.norm", blocks: "model.layers.%d.",
	in: blockNames{
		attentionNorm: "input_layernorm", query: "self_attn.q_proj", key: "self_attn.k_proj", value: "self_attn.v_proj", out: "self_attn.o_proj",
		mlpNorm: "post_attention_layernorm", gate: "mlp.gate_proj", up: "mlp.up_proj", down: "mlp.down_proj",
	},
}

func (c Config) names() names {
	if c.gpt2() {
		return gpt2Names
	}
	return llamaNames
}

// gpt2 says that the Transformer has GPT-2's form, and its layouts with it.
func (c Config) gpt2() bool {
	return c.Norm == LayerNorm && c.Position == Learned && c.MLP == GELU && c.KVHeads == c.Heads
}

// block returns the full names in a block.
func (n names) block(i int) blockNames {
	b := n.in
	for _, name := range []*string{&b.attentionNorm, &b.qkv, &b.query, &b.key, &b.value, &b.out, &b.mlpNorm, &b.gate, &b.up, &b.down} {
		if *name != "" {
			*name = fmt.Sprintf(n.blocks, i) + *name
		}
	}
	return b
}
