package config

import (
	"fmt"
	"strings"

	"github.com/koala-lm/koala-lm/lm/spec"
)

// A family is a model_type of transformers that package lm computes: its class, the
// values of absent fields, and how it differs from LLaMA.
type family struct {
	name  string // model_type
	class string // architectures
	// defaults are the values that the family's configuration class gives absent fields.
	defaults map[string]any
	// aliases are other names of fields, the class's attribute_map.
	aliases map[string]string

	read  func(f *fields, m *spec.Model)
	write func(m *spec.Model, a spec.Architecture) map[string]any

	// source returns the place of a parameter of package lm in the family's files.
	source func(name string) Source
}

// families lists all families. A model is exported as the first family that has its
// form.
var families = []*family{
	{
		name: "gpt2", class: "GPT2LMHeadModel", read: readGPT2, write: writeGPT2, source: same,
		defaults: map[string]any{
			"vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12, "activation_function": "gelu_new",
			"layer_norm_epsilon": 1e-5, "tie_word_embeddings": true, "scale_attn_weights": true, "bos_token_id": 50256, "eos_token_id": 50256,
		},
		aliases: map[string]string{
			"hidden_size": "n_embd", "max_position_embeddings": "n_positions", "num_attention_heads": "n_head", "num_hidden_layers": "n_layer",
		},
	},
	{
		name: "llama", class: "LlamaForCausalLM", read: readLlama, write: writeLlama, source: same,
		defaults: llamaDefaults(nil),
	},
	{
		name: "mistral", class: "MistralForCausalLM", read: readMistral, write: writeMistral, source: same,
		defaults: llamaDefaults(map[string]any{"intermediate_size": 14336, "num_key_value_heads": 8, "max_position_embeddings": 131072, "sliding_window": 4096}),
	},
	{
		name: "qwen2", class: "Qwen2ForCausalLM", read: readQwen2, write: writeQwen2, source: same,
		defaults: llamaDefaults(qwenDefaults),
	},
	{
		name: "qwen3", class: "Qwen3ForCausalLM", read: readQwen3, write: writeQwen3, source: same,
		defaults: llamaDefaults(qwenDefaults, map[string]any{"head_dim": 128}),
	},
	{
		name: "smollm3", class: "SmolLM3ForCausalLM", read: readSmolLM3, write: writeSmolLM3, source: same,
		defaults: llamaDefaults(map[string]any{
			"vocab_size": 128256, "hidden_size": 2048, "num_hidden_layers": 36, "num_attention_heads": 16, "num_key_value_heads": 4,
			"max_position_embeddings": 32768, "tie_word_embeddings": true, "no_rope_layer_interval": 4, "rope_theta": 2000000, "bos_token_id": 128000, "eos_token_id": 128001,
		}),
	},
	{
		name: "gpt_neox", class: "GPTNeoXForCausalLM", read: readNeoX, write: writeNeoX, source: neoXSource,
		defaults: map[string]any{
			"vocab_size": 50432, "hidden_size": 6144, "num_hidden_layers": 44, "num_attention_heads": 64, "intermediate_size": 24576,
			"hidden_act": "gelu", "max_position_embeddings": 2048, "layer_norm_eps": 1e-5, "use_parallel_residual": true, "attention_bias": true,
			"bos_token_id": 0, "eos_token_id": 2,
		},
	},
}

func find(name string) *family {
	for _, f := range families {
		if f.name == name {
			return f
		}
	}
	return nil
}

func names() string {
	var list []string
	for _, f := range families {
		list = append(list, f.name)
	}
	last := len(list) - 1
	return strings.Join(list[:last], ", ") + " or " + list[last]
}

// llamaDefaults returns the defaults of LlamaConfig, overridden by the defaults of
// another class.
func llamaDefaults(others ...map[string]any) map[string]any {
	d := map[string]any{
		"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
		"hidden_act": "silu", "max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "bos_token_id": 1, "eos_token_id": 2,
	}
	for _, other := range others {
		for key, v := range other {
			d[key] = v
		}
	}
	return d
}

var qwenDefaults = map[string]any{
	"vocab_size": 151936, "intermediate_size": 22016, "num_key_value_heads": 32, "max_position_embeddings": 32768,
	"sliding_window": 4096, "max_window_layers": 28, "bos_token_id": nil, "eos_token_id": nil,
}

// GPT-2 (Radford et al. 2019).

func readGPT2(f *fields, m *spec.Model) {
	m.Context, m.Embed, m.Layers, m.Heads = f.size("n_positions"), f.size("n_embd"), int(f.size("n_layer")), int(f.size("n_head"))
	m.KVHeads, m.Norm, m.Position = m.Heads, spec.LayerNorm, spec.Learned
	if m.Hidden = f.optionalSize("n_inner"); m.Hidden == 0 {
		m.Hidden = 4 * m.Embed
	}
	m.MLP = f.activation("activation_function")
	m.Architecture.NormEps = f.epsilon("layer_norm_epsilon")
	if !f.truth("scale_attn_weights") {
		f.bad("scale_attn_weights", "and attention without a scale is not supported")
	}
	f.mustNot("scale_attn_by_inverse_layer_idx")
	f.mustNot("add_cross_attention")
}

func writeGPT2(m *spec.Model, a spec.Architecture) map[string]any {
	if !m.GPT2() {
		return nil
	}
	activation, _ := spec.SplitMLP(m.MLP)
	return map[string]any{
		"n_positions": m.Context, "n_embd": m.Embed, "n_layer": m.Layers, "n_head": m.Heads, "n_inner": m.Hidden,
		"activation_function": activationName(activation), "layer_norm_epsilon": withPoint(a.NormEps),
		"embd_pdrop": m.Dropout.Input, "attn_pdrop": m.Dropout.Hidden, "resid_pdrop": m.Dropout.Hidden,
	}
}

// LLaMA 1 to 3 (Touvron et al. 2023) and SmolLM 2. Most later models share this
// form.

func readLlama(f *fields, m *spec.Model) {
	readLlamaShape(f, m)
	attention, mlp := f.truth("attention_bias"), f.truth("mlp_bias")
	switch {
	case attention && mlp:
		m.Architecture.Biases = spec.AllBiases
	case attention:
		m.Architecture.Biases = spec.AttentionBiases
	case mlp:
		m.Architecture.Biases = spec.MLPBiases
	}
}

func readLlamaShape(f *fields, m *spec.Model) {
	m.Context, m.Embed, m.Hidden = f.size("max_position_embeddings"), f.size("hidden_size"), f.size("intermediate_size")
	m.Layers, m.Heads, m.KVHeads = int(f.size("num_hidden_layers")), int(f.size("num_attention_heads")), int(f.optionalSize("num_key_value_heads"))
	if m.KVHeads == 0 {
		m.KVHeads = m.Heads
	}
	m.Norm, m.Position, m.MLP = spec.RMSNorm, spec.Rotary, spec.JoinMLP(f.activation("hidden_act"), true)
	a := &m.Architecture
	a.HeadWidth, a.NormEps, a.Biases = f.optionalSize("head_dim"), f.epsilon("rms_norm_eps"), spec.NoBiases
	a.Rotary = f.rotary("rope_theta", "partial_rotary_factor", 1, m.Context)
	if a.Rotary.Share != 1 {
		*f.problems = append(*f.problems, fmt.Sprintf("partial_rotary_factor is %g, and transformers turns whole heads of a %s", a.Rotary.Share, f.word("model_type")))
	}
}

// llamaFields returns the fields common to LLaMA's families, or nil for a model of
// another form.
func llamaFields(m *spec.Model, a spec.Architecture) map[string]any {
	activation, hasGate := spec.SplitMLP(m.MLP)
	if m.Norm != spec.RMSNorm || m.Position != spec.Rotary || !hasGate || a.Parallel {
		return nil
	}
	fields := map[string]any{
		"max_position_embeddings": m.Context, "hidden_size": m.Embed, "intermediate_size": m.Hidden, "num_hidden_layers": m.Layers,
		"num_attention_heads": m.Heads, "num_key_value_heads": m.KVHeads, "head_dim": a.HeadWidth,
		"hidden_act": activationName(activation), "rms_norm_eps": withPoint(a.NormEps), "attention_dropout": m.Dropout.Hidden,
	}
	writeRotary(fields, a, m.Context)
	return fields
}

func writeLlama(m *spec.Model, a spec.Architecture) map[string]any {
	fields := llamaFields(m, a)
	if fields != nil {
		fields["attention_bias"] = a.Biases == spec.AttentionBiases || a.Biases == spec.AllBiases
		fields["mlp_bias"] = a.Biases == spec.MLPBiases || a.Biases == spec.AllBiases
	}
	return fields
}

// Mistral (Jiang et al. 2023): a window in all layers. With layer_types, transformers
// takes it for a Ministral, where some layers have none.

func readMistral(f *fields, m *spec.Model) {
	readLlamaShape(f, m)
	readWindows(f, m, f.optionalSize("sliding_window"), func(int) bool { return true })
}

func writeMistral(m *spec.Model, a spec.Architecture) map[string]any {
	fields := llamaFields(m, a)
	if fields != nil {
		fields["sliding_window"] = nil // absent, it would be 4096
		if a.Window > 0 {
			fields["sliding_window"] = a.Window
		}
	}
	return fields
}

// Qwen 2 (Yang et al. 2024): biases of queries, keys and values; a window in the last
// layers.

func readQwen2(f *fields, m *spec.Model) {
	readLlamaShape(f, m)
	m.Architecture.Biases = spec.QKVBiases
	first, whole := number(f.get("max_window_layers"))
	if !whole {
		f.bad("max_window_layers", "not a whole number")
	}
	readWindows(f, m, usedWindow(f), func(i int) bool { return float64(i) >= first })
}

func writeQwen2(m *spec.Model, a spec.Architecture) map[string]any {
	fields := llamaFields(m, a)
	if fields != nil {
		writeWindows(fields, m, a)
	}
	return fields
}

// usedWindow reads the window of models that say whether they use it; 0 if they do not.
func usedWindow(f *fields) int64 {
	if f.truth("use_sliding_window") {
		return f.optionalSize("sliding_window")
	}
	f.integer("sliding_window") // any number, but a number
	return 0
}

// readWindows reads the layers with the window: from layer_types, or else by has.
func readWindows(f *fields, m *spec.Model, window int64, has func(layer int) bool) {
	kinds := f.list("layer_types")
	if kinds != nil && len(kinds) != m.Layers {
		f.bad("layer_types", "not of %d layers", m.Layers)
		return
	}
	if window == 0 {
		for _, kind := range kinds {
			if kind != "full_attention" {
				f.bad("layer_types", "and there is no sliding_window in use")
				return
			}
		}
		return
	}
	var with []int64
	for i := range m.Layers {
		in := false
		switch {
		case kinds == nil:
			in = has(i)
		case kinds[i] == "sliding_attention":
			in = true
		case kinds[i] != "full_attention":
			f.bad("layer_types", "where a layer can be full_attention or sliding_attention")
			return
		}
		if in {
			with = append(with, int64(i+1))
		}
	}
	if len(with) == 0 {
		return
	}
	m.Architecture.Window = window
	if len(with) < m.Layers {
		m.Architecture.WindowLayers = with
	}
}

func writeWindows(fields map[string]any, m *spec.Model, a spec.Architecture) {
	fields["use_sliding_window"] = a.Window > 0
	if a.Window == 0 {
		return
	}
	with := map[int64]bool{}
	for _, i := range a.WindowLayers {
		with[i] = true
	}
	kinds := make([]string, m.Layers)
	for i := range kinds {
		kinds[i] = "full_attention"
		if len(a.WindowLayers) == 0 || with[int64(i+1)] {
			kinds[i] = "sliding_attention"
		}
	}
	fields["sliding_window"], fields["layer_types"] = a.Window, kinds
}

// Qwen 3 (Yang et al. 2025): RMSNorm of queries and keys.

func readQwen3(f *fields, m *spec.Model) {
	readQwen2(f, m)
	m.Architecture.QKNorm, m.Architecture.Biases = true, spec.NoBiases
	if f.truth("attention_bias") {
		m.Architecture.Biases = spec.AttentionBiases
	}
}

func writeQwen3(m *spec.Model, a spec.Architecture) map[string]any {
	fields := writeQwen2(m, a)
	if fields != nil {
		fields["attention_bias"] = a.Biases == spec.AttentionBiases
	}
	return fields
}

// SmolLM 3: every fourth layer without positions (Yang et al. 2025, "Rope to Nope").

func readSmolLM3(f *fields, m *spec.Model) {
	readLlama(f, m)
	turned := f.list("no_rope_layers") // 1 where a layer has positions
	if turned != nil && len(turned) != m.Layers {
		f.bad("no_rope_layers", "not of %d layers", m.Layers)
		return
	}
	every := f.size("no_rope_layer_interval")
	skip := make(map[int]bool)
	for i := range m.Layers {
		skip[i] = every > 0 && int64(i+1)%every == 0
		if turned != nil {
			n, whole := number(turned[i])
			if skip[i] = n == 0; !whole {
				f.bad("no_rope_layers", "not whole numbers")
				return
			}
		}
		if skip[i] {
			m.Architecture.Rotary.Skip = append(m.Architecture.Rotary.Skip, int64(i+1))
		}
	}
	readWindows(f, m, usedWindow(f), func(i int) bool { return skip[i] })
}

func writeSmolLM3(m *spec.Model, a spec.Architecture) map[string]any {
	fields := writeLlama(m, a)
	if fields == nil {
		return nil
	}
	if m.Embed%int64(m.Heads) == 0 && a.HeadWidth == m.Embed/int64(m.Heads) {
		delete(fields, "head_dim")
	}
	turned := make([]int, m.Layers)
	for i := range turned {
		turned[i] = 1
	}
	for _, i := range a.Rotary.Skip {
		turned[i-1] = 0
	}
	fields["no_rope_layers"] = turned
	writeWindows(fields, m, a)
	return fields
}

// GPT-NeoX and Pythia (Black et al. 2022): layer norm, partial rotary positions, and
// branches beside each other.

func readNeoX(f *fields, m *spec.Model) {
	m.Context, m.Embed, m.Hidden = f.size("max_position_embeddings"), f.size("hidden_size"), f.size("intermediate_size")
	m.Layers, m.Heads = int(f.size("num_hidden_layers")), int(f.size("num_attention_heads"))
	m.KVHeads, m.Norm, m.Position, m.MLP = m.Heads, spec.LayerNorm, spec.Rotary, f.activation("hidden_act")
	a := &m.Architecture
	a.NormEps, a.Parallel, a.Biases = f.epsilon("layer_norm_eps"), f.truth("use_parallel_residual"), spec.AllBiases
	if !f.truth("attention_bias") {
		a.Biases = spec.MLPBiases
	}
	a.Rotary = f.rotary("rotary_emb_base", "rotary_pct", 0.25, m.Context)
}

func writeNeoX(m *spec.Model, a spec.Architecture) map[string]any {
	activation, hasGate := spec.SplitMLP(m.MLP)
	if m.Norm != spec.LayerNorm || m.Position != spec.Rotary || hasGate {
		return nil
	}
	fields := map[string]any{
		"max_position_embeddings": m.Context, "hidden_size": m.Embed, "intermediate_size": m.Hidden, "num_hidden_layers": m.Layers,
		"num_attention_heads": m.Heads, "hidden_act": activationName(activation), "layer_norm_eps": withPoint(a.NormEps),
		"use_parallel_residual": a.Parallel, "attention_bias": a.Biases == spec.AllBiases,
		"attention_dropout": m.Dropout.Hidden, "hidden_dropout": m.Dropout.Hidden,
	}
	writeRotary(fields, a, m.Context)
	fields["rotary_pct"], fields["rotary_emb_base"] = a.Rotary.Share, a.Rotary.Base
	return fields
}

// A Source is the place of a parameter in a family's files: a whole tensor, or in a
// tensor of heads the part number Part of Parts of each head's rows.
type Source struct {
	Name        string
	Part, Parts int
}

func same(name string) Source { return Source{Name: name} }

// neoXSource is the source of GPT-NeoX, which keeps queries, keys and values head by
// head in one tensor.
func neoXSource(name string) Source {
	parts := 0
	part := 0
	for i, projection := range []string{"q_proj", "k_proj", "v_proj"} {
		if strings.Contains(name, "self_attn."+projection) {
			name, part, parts = strings.Replace(name, "self_attn."+projection, "attention.query_key_value", 1), i, 3
		}
	}
	for _, r := range [][2]string{
		{"model.embed_tokens", "gpt_neox.embed_in"}, {"model.norm", "gpt_neox.final_layer_norm"}, {"model.layers", "gpt_neox.layers"},
		{"self_attn.o_proj", "attention.dense"}, {"mlp.up_proj", "mlp.dense_h_to_4h"}, {"mlp.down_proj", "mlp.dense_4h_to_h"}, {"lm_head", "embed_out"},
	} {
		name = strings.Replace(name, r[0], r[1], 1)
	}
	return Source{name, part, parts}
}
