package configs

import "fmt"

// checkTogether finds values that are legal each but not together. A check is
// left out where one of its settings is broken already.
func (r *resolved) checkTogether(problems *Problems) {
	s := &r.settings
	check := func(bad bool, text string, keys ...string) {
		if !bad {
			return
		}
		where, latest := "", -1
		for _, key := range keys {
			if r.broken[key] {
				return
			}
			if o, ok := r.set[key]; ok && o.layer >= latest {
				where, latest = o.where, o.layer
			}
		}
		problems.add(where, "%s", text)
	}

	m := s.Model
	if !m.Recurrent() && m.Heads > 0 && m.KVHeads > 0 {
		check(m.Embed%m.Heads != 0, fmt.Sprintf("model.heads %d must divide model.embed %d", m.Heads, m.Embed), "model.embed", "model.heads")
		check(m.Heads%m.KVHeads != 0, fmt.Sprintf("model.kv_heads %d must divide model.heads %d", m.KVHeads, m.Heads), "model.heads", "model.kv_heads")
		check(m.Position == "rotary" && m.Embed%m.Heads == 0 && m.Embed/m.Heads%2 != 0,
			fmt.Sprintf("model.position rotary needs heads of even width, and model.embed %d / model.heads %d is odd", m.Embed, m.Heads),
			"model.embed", "model.heads", "model.position")
	}

	check(m.Tied && m.Softmax == "adaptive",
		"model.tied must be false with model.softmax adaptive, which has weights of its own", "model.tied", "model.softmax")

	o := s.Optimizer
	check(o.SC*o.SC > o.SW*o.SV,
		fmt.Sprintf("optimizer.sc %v is no covariance of variances sw %v and sv %v: its square must be at most their product", o.SC, o.SW, o.SV),
		"optimizer.sc", "optimizer.sw", "optimizer.sv")
	check(o.Nesterov && o.Momentum == 0, "optimizer.nesterov needs a momentum: set optimizer.momentum, such as 0.9", "optimizer.nesterov", "optimizer.momentum")

	t, c := s.Train, s.Schedule
	check(t.VariableBPTT && t.Batching != "contiguous", fmt.Sprintf("train.variable_bptt is for train.batching contiguous, not %s", t.Batching),
		"train.variable_bptt", "train.batching")
	decays := c.Kind == "cosine" || c.Kind == "linear"
	check(t.Steps == 0 && t.Epochs == 0 && t.TimeLimit == 0,
		"nothing would end the run: set train.steps, train.epochs or train.time_limit", "train.steps", "train.epochs", "train.time_limit")
	check(decays && c.Steps == 0 && t.Steps == 0 && t.Epochs == 0,
		fmt.Sprintf("schedule.kind %s needs to know where it ends: set schedule.steps, train.steps or train.epochs", c.Kind),
		"schedule.kind", "schedule.steps", "train.steps", "train.epochs")
	end := c.Steps
	if end == 0 {
		end = t.Steps
	}
	check(decays && end > 0 && c.Warmup >= end,
		fmt.Sprintf("schedule.warmup %d must be less than the %d steps of the schedule", c.Warmup, end),
		"schedule.warmup", "schedule.steps", "train.steps")
}
