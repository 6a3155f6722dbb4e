package config

import (
	"math"

	"github.com/koala-lm/koala-lm/lm/spec"
)

// rotary reads rotary positions: rope_parameters since transformers 5; before, the
// fields base and share beside rope_scaling. share is the part of a head that turns,
// by default the given one.
func (f *fields) rotary(base, share string, defaultShare float64, context int64) spec.Rotations {
	r := spec.Rotations{Base: 10000, Share: defaultShare}
	// read reads base or share: from the newer field first, where one of each is enough.
	read := func(in *fields, key string, into *float64) (found bool) {
		if in == nil || in.get(key) == nil && !in.isNull(key) {
			return false
		}
		*into = in.positive(key)
		return true
	}
	key := "rope_parameters"
	if p := f.object("rope_scaling"); p != nil && len(p.values) > 0 {
		key = "rope_scaling" // in transformers too, the older field takes precedence
	}
	p := f.object(key)
	if !read(p, "rope_theta", &r.Base) {
		read(f, base, &r.Base)
	}
	if !read(p, "partial_rotary_factor", &r.Share) {
		read(f, share, &r.Share)
	}
	if p == nil {
		return r
	}
	for _, nested := range []string{"full_attention", "sliding_attention"} {
		if p.has(nested) {
			p.bad(nested, "and positions that differ by layer are not supported")
			return r
		}
	}
	named := "rope_type"
	if !p.has(named) && p.has("type") {
		named = "type"
	}
	p.defaults = map[string]any{named: "default"}
	switch p.word(named) {
	case "default":
	case "dynamic":
		// Frequencies change only beyond max_position_embeddings, which is the context.
	case "linear":
		r.Scaling, r.Factor = spec.LinearScaling, p.positive("factor")
	case "llama3":
		r.Scaling, r.Factor, r.Original = spec.Llama3Scaling, p.positive("factor"), p.original(f, context)
		r.Low, r.High = p.positive("low_freq_factor"), p.positive("high_freq_factor")
		if r.High <= r.Low && r.Low > 0 {
			p.bad("high_freq_factor", "not above low_freq_factor %g", r.Low)
		}
	case "yarn":
		r.Scaling, r.Factor, r.Original = spec.YarnScaling, p.positive("factor"), p.original(f, context)
		p.defaults["truncate"] = true
		r.Fast, r.Slow, r.Exact = p.real("beta_fast"), p.real("beta_slow"), !p.truth("truncate")
		if p.has("attention_factor") {
			r.Gain = p.positive("attention_factor")
		} else {
			r.Gain = yarnGain(r.Factor, 1)
			if scale, all := p.real("mscale"), p.real("mscale_all_dim"); scale != 0 && all != 0 {
				r.Gain = yarnGain(r.Factor, scale) / yarnGain(r.Factor, all)
			}
		}
	default:
		p.bad(named, "not default, linear, dynamic, llama3 or yarn")
	}
	return r
}

// original returns the context before it grew; all holds the fields that contain p.
func (f *fields) original(all *fields, context int64) int64 {
	const key = "original_max_position_embeddings"
	switch {
	case all.has(key):
		return all.size(key)
	case f.has(key), f.isNull(key):
		return f.size(key)
	}
	return context
}

func yarnGain(factor, scale float64) float64 {
	if factor <= 1 {
		return 1
	}
	return 0.1*scale*math.Log(factor) + 1
}

// writeRotary is the inverse of rotary. It writes the fields of transformers 4 and
// 5.
func writeRotary(fields map[string]any, a spec.Architecture, context int64) {
	r := a.Rotary
	p := map[string]any{"rope_theta": r.Base, "rope_type": "default"}
	switch r.Scaling {
	case spec.LinearScaling:
		p["rope_type"], p["factor"] = "linear", r.Factor
	case spec.Llama3Scaling:
		p["rope_type"], p["factor"], p["original_max_position_embeddings"] = "llama3", r.Factor, r.Original
		p["low_freq_factor"], p["high_freq_factor"] = r.Low, r.High
	case spec.YarnScaling:
		p["rope_type"], p["factor"], p["original_max_position_embeddings"] = "yarn", r.Factor, r.Original
		p["beta_fast"], p["beta_slow"], p["truncate"] = r.Fast, r.Slow, !r.Exact
		p["attention_factor"] = r.Gain
		if r.Gain == 0 {
			p["attention_factor"] = yarnGain(r.Factor, 1)
		}
	}
	if r.Share != 1 {
		p["partial_rotary_factor"] = r.Share
	}
	fields["rope_theta"], fields["rope_parameters"] = r.Base, p
	if r.Scaling != spec.NoScaling { // for transformers 4
		old := map[string]any{}
		for key, v := range p {
			if key != "rope_theta" && key != "partial_rotary_factor" {
				old[key] = v
			}
		}
		fields["rope_scaling"] = old
	}
}
