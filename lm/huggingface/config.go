package huggingface

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/koala-lm/koala-lm/lm"
)

// What lm computes with, and config.json may say otherwise.
const (
	normEps  = 1e-5
	ropeBase = 10000
)

// gpt2 is the config.json of GPT2LMHeadModel.
type gpt2 struct {
	ModelType     string   `json:"model_type"`
	Architectures []string `json:"architectures"`
	Vocab         int64    `json:"vocab_size"`
	Context       int64    `json:"n_positions"`
	Embed         int64    `json:"n_embd"`
	Layers        int      `json:"n_layer"`
	Heads         int      `json:"n_head"`
	Inner         *int64   `json:"n_inner"` // null is 4 n_embd
	Activation    string   `json:"activation_function"`
	NormEps       float64  `json:"layer_norm_epsilon"`
	Tied          *bool    `json:"tie_word_embeddings,omitempty"` // absent is true
	EmbedDrop     float64  `json:"embd_pdrop"`
	AttentionDrop float64  `json:"attn_pdrop"`
	ResidualDrop  float64  `json:"resid_pdrop"`
	BOS           *int64   `json:"bos_token_id"`
	EOS           *int64   `json:"eos_token_id"`

	ScaleWeights *bool `json:"scale_attn_weights,omitempty"`
	ScaleByLayer bool  `json:"scale_attn_by_inverse_layer_idx,omitempty"`
}

// llama is the config.json of LlamaForCausalLM.
type llama struct {
	ModelType     string          `json:"model_type"`
	Architectures []string        `json:"architectures"`
	Vocab         int64           `json:"vocab_size"`
	Context       int64           `json:"max_position_embeddings"`
	Embed         int64           `json:"hidden_size"`
	Hidden        int64           `json:"intermediate_size"`
	Layers        int             `json:"num_hidden_layers"`
	Heads         int             `json:"num_attention_heads"`
	KVHeads       int             `json:"num_key_value_heads,omitempty"`
	HeadWidth     int64           `json:"head_dim,omitempty"`
	Activation    string          `json:"hidden_act"`
	NormEps       float64         `json:"rms_norm_eps"`
	RopeTheta     float64         `json:"rope_theta,omitempty"`
	RopeScaling   json.RawMessage `json:"rope_scaling,omitempty"`
	RopeParams    *ropeParams     `json:"rope_parameters,omitempty"` // since transformers 5, for the two before
	Tied          bool            `json:"tie_word_embeddings"`
	AttentionBias bool            `json:"attention_bias"`
	MLPBias       bool            `json:"mlp_bias"`
	BOS           *int64          `json:"bos_token_id"`
	EOS           *int64          `json:"eos_token_id"`
}

type ropeParams struct {
	Theta float64 `json:"rope_theta"`
	Type  string  `json:"rope_type"`
}

// describe is the config.json of a model; separator is the id that ends and begins
// documents, or nil.
func describe(c lm.Config, separator *int64) (any, error) {
	isGPT2 := c.Norm == lm.LayerNorm && c.Position == lm.Learned && c.MLP == lm.GELU && c.KVHeads == c.Heads
	isLlama := c.Norm == lm.RMSNorm && c.Position == lm.Rotary && c.MLP == lm.SwiGLU
	switch {
	case c.Kind != lm.Transformer:
		return nil, fmt.Errorf("transformers has no model like a %s: export it to safetensors", c.Kind)
	case isGPT2:
		return gpt2{
			ModelType: "gpt2", Architectures: []string{"GPT2LMHeadModel"},
			Vocab: c.Vocab, Context: c.Context, Embed: c.Embed, Layers: c.Layers, Heads: c.Heads, Inner: &c.Hidden,
			Activation: "gelu_new", NormEps: normEps, Tied: &c.Tied, EmbedDrop: c.Dropout.Input, AttentionDrop: c.Dropout.Hidden,
			ResidualDrop: c.Dropout.Hidden, BOS: separator, EOS: separator,
		}, nil
	case isLlama:
		return llama{
			ModelType: "llama", Architectures: []string{"LlamaForCausalLM"},
			Vocab: c.Vocab, Context: c.Context, Embed: c.Embed, Hidden: c.Hidden, Layers: c.Layers, Heads: c.Heads, KVHeads: c.KVHeads,
			Activation: "silu", NormEps: normEps, RopeTheta: ropeBase, RopeParams: &ropeParams{ropeBase, "default"}, Tied: c.Tied, BOS: separator, EOS: separator,
		}, nil
	}
	return nil, fmt.Errorf("transformers has no model with norm %s, position %s, mlp %s and %d of %d heads of keys: it has those of GPT-2 (layer, learned, gelu, all) and LLaMA (rms, rotary, swiglu); export it to safetensors",
		c.Norm, c.Position, c.MLP, c.KVHeads, c.Heads)
}

// ParseConfig reads config.json. It refuses what lm would compute otherwise.
func ParseConfig(content []byte) (lm.Config, error) {
	var kind struct {
		ModelType string `json:"model_type"`
	}
	if err := json.Unmarshal(content, &kind); err != nil {
		return lm.Config{}, fmt.Errorf("not a config.json: %w", err)
	}
	switch kind.ModelType {
	case "gpt2":
		return parseGPT2(content)
	case "llama":
		return parseLlama(content)
	}
	return lm.Config{}, fmt.Errorf("model_type is %q: it can be gpt2 or llama", kind.ModelType)
}

func parseGPT2(content []byte) (lm.Config, error) {
	g := gpt2{Activation: "gelu_new", NormEps: normEps}
	if err := json.Unmarshal(content, &g); err != nil {
		return lm.Config{}, fmt.Errorf("config.json of a gpt2: %w", err)
	}
	var p problems
	p.want(g.Activation == "gelu_new" || g.Activation == "gelu_pytorch_tanh", "activation_function is %q, not gelu_new", g.Activation)
	p.want(g.NormEps == normEps, "layer_norm_epsilon is %g, not %g", g.NormEps, normEps)
	p.want(!g.ScaleByLayer && (g.ScaleWeights == nil || *g.ScaleWeights), "attention is not scaled as usual")
	if g.Inner == nil {
		inner := 4 * g.Embed
		g.Inner = &inner
	}
	return lm.Config{
		Kind: lm.Transformer, Vocab: g.Vocab, Layers: g.Layers, Embed: g.Embed, Hidden: *g.Inner, Tied: g.Tied == nil || *g.Tied,
		Heads: g.Heads, KVHeads: g.Heads, Context: g.Context, Norm: lm.LayerNorm, Position: lm.Learned, MLP: lm.GELU,
	}, p.err()
}

func parseLlama(content []byte) (lm.Config, error) {
	l := llama{NormEps: 1e-6, Activation: "silu"}
	if err := json.Unmarshal(content, &l); err != nil {
		return lm.Config{}, fmt.Errorf("config.json of a llama: %w", err)
	}
	theta, scaled := l.RopeTheta, len(l.RopeScaling) > 0 && string(l.RopeScaling) != "null"
	if l.RopeParams != nil {
		theta, scaled = l.RopeParams.Theta, scaled || l.RopeParams.Type != "" && l.RopeParams.Type != "default"
	}
	var p problems
	p.want(l.Activation == "silu", "hidden_act is %q, not silu", l.Activation)
	p.want(l.NormEps == normEps, "rms_norm_eps is %g, not %g", l.NormEps, normEps)
	p.want(theta == 0 || theta == ropeBase, "rope_theta is %g, not %d", theta, ropeBase)
	p.want(!scaled, "positions are scaled (rope_scaling)")
	p.want(!l.AttentionBias && !l.MLPBias, "there are biases")
	p.want(l.HeadWidth == 0 || l.HeadWidth*int64(l.Heads) == l.Embed, "head_dim is %d, not %d / %d", l.HeadWidth, l.Embed, l.Heads)
	if l.KVHeads == 0 {
		l.KVHeads = l.Heads
	}
	return lm.Config{
		Kind: lm.Transformer, Vocab: l.Vocab, Layers: l.Layers, Embed: l.Embed, Hidden: l.Hidden, Tied: l.Tied,
		Heads: l.Heads, KVHeads: l.KVHeads, Context: l.Context, Norm: lm.RMSNorm, Position: lm.Rotary, MLP: lm.SwiGLU,
	}, p.err()
}

// problems collects what a model has that lm has not.
type problems []string

func (p *problems) want(ok bool, format string, args ...any) {
	if !ok {
		*p = append(*p, fmt.Sprintf(format, args...))
	}
}

func (p problems) err() error {
	if len(p) == 0 {
		return nil
	}
	return errors.New("this model cannot be computed here: " + strings.Join(p, "; "))
}
