package spec

import "github.com/koala-lm/koala-lm/internal/setting"

// byFamily is a default that differs between Transformers and other models.
func byFamily(recurrent, transformer any) setting.Default {
	return setting.Value(recurrent).When(setting.Is("model.family", "transformer"), transformer)
}

// always is a default for all models.
func always(v any) setting.Default { return setting.Value(v) }

// hidden marks a hyperparameter that only programs set, to reproduce another
// implementation.
func hidden(d setting.Declaration) setting.Declaration {
	d.Hidden = true
	return d
}

func hyper(key, meaning string, domain setting.Domain, value setting.Default) setting.Declaration {
	return setting.Declaration{Key: key, Meaning: meaning, Domain: domain, Default: value}
}

// lr is the learning rate.
func lr(value setting.Default) setting.Declaration {
	return hyper("lr", "learning rate; KOALA's multiplies the filter's own step", setting.Positive, value)
}

// weightDecay is the factor of the pull towards zero.
func weightDecay(value setting.Default) setting.Declaration {
	return hyper("weight_decay", "pull towards zero", setting.Natural, value)
}

// clip is the largest norm of all gradients together.
func clip(value setting.Default) setting.Declaration {
	return hyper("clip", "largest norm of all gradients together; 0 is no limit", setting.Natural, value)
}

// usualClip bounds the gradient for the kinds whose step grows with it, and for
// those whose running mean of squares remembers the first ones.
func usualClip() setting.Declaration { return clip(byFamily(0.25, 1)) }

// share is a number in [0, 1), such as the memory of a running mean.
func share(key, meaning string, value setting.Default) setting.Declaration {
	return hyper(key, meaning, setting.Below1, value)
}

func eps(value float64) setting.Declaration {
	return hyper("eps", "added to the root of the mean square", setting.Positive, always(value))
}

// groupSettings are the settings of parameter groups, which every kind has.
func groupSettings(decoupled bool) []setting.Declaration {
	decays := func(key, meaning string, value bool) setting.Declaration {
		d := hyper(key, meaning, setting.Bool{}, always(value))
		d.Idle = []setting.Idle{withoutDecay}
		return d
	}
	return []setting.Declaration{
		decays("decay_norms", "weight decay for biases and norm gains too", !decoupled),
		decays("decay_embeddings", "weight decay for embeddings too", true),
		hyper("lr_embeddings", "factor of the learning rate for embeddings and output layers", setting.Positive, always(1)),
		hyper("lr_norms", "factor of the learning rate for biases and norm gains", setting.Positive, always(1)),
	}
}

// withoutDecay is the case in which a setting of weight decay has no effect.
var withoutDecay = setting.Idle{When: []setting.Condition{setting.Is("weight_decay", 0)}, Reason: "there is no weight decay"}
