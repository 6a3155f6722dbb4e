package configs

import (
	"slices"
	"strings"

	"github.com/koala-lm/koala-lm/internal/setting"
)

// Keys lists the key of every setting.
func Keys() []string {
	list := declared().list
	keys := make([]string, len(list))
	for i := range list {
		keys[i] = list[i].Key
	}
	return keys
}

// Words lists the words that are values of a setting, such as the kinds of model for
// model.kind.
func Words(key string) []string {
	d, ok := declaration(key)
	if !ok {
		return nil
	}
	return d.Domain.Words()
}

// Takes reports whether a setting can have the value that text has in a file. allowed
// completes "KEY must be". A key that is no setting takes everything.
func Takes(key, text string) (ok bool, allowed string) {
	d, known := declaration(key)
	if !known {
		return true, ""
	}
	_, ok = d.Domain.Parse(setting.Literal{Text: text})
	return ok, d.Domain.String()
}

// HasWordsAndNumbers reports whether some values of a setting are words and the others
// numbers, such as those of optimizer.r.
func HasWordsAndNumbers(key string) bool {
	d, ok := declaration(key)
	if !ok || len(d.Domain.Words()) == 0 {
		return false
	}
	_, numbers := d.Domain.Accept(0.0) // the word of FloatOr
	return numbers
}

// otherNames maps names in other programs to our settings.
var otherNames = map[string]string{
	"learning-rate": "optimizer.lr", "batch-size": "train.batch", "optimizer": "optimizer.kind", "optim": "optimizer.kind", "model": "model.kind",
	"hidden-size": "model.hidden", "nhid": "model.hidden", "emsize": "model.embed", "n-embd": "model.embed", "num-layers": "model.layers",
	"nlayers": "model.layers", "n-layer": "model.layers", "n-head": "model.heads", "num-heads": "model.heads", "block-size": "model.context",
	"seq-len": "train.bptt", "max-steps": "train.steps", "max-iters": "train.steps", "num-epochs": "train.epochs", "dropout": "model.dropout.output",
	"gradient-clip": "train.clip", "grad-clip": "train.clip", "eval-interval": "eval.every", "dtype": "train.precision",
	"gradient-accumulation-steps": "train.accumulate", "lr-scheduler": "schedule.kind", "scheduler": "schedule.kind",
	"bs": "train.batch", "batchsize": "train.batch", "wd": "optimizer.weight_decay", "max-epochs": "train.epochs", "warmup-steps": "schedule.warmup",
	"warmup-iters": "schedule.warmup", "eval-every": "eval.every", "save-every": "checkpoint.every", "save-steps": "checkpoint.every", "log-interval": "train.log_every",
	"context-length": "model.context", "seq-length": "model.context", "accumulation-steps": "train.accumulate", "grad-accum": "train.accumulate",
	"patience": "eval.patience", "early-stopping": "eval.patience", "mixed-precision": "train.precision", "amp": "train.precision", "bf16": "train.precision",
	"fp16": "train.precision",
}

// Meant returns the setting that a name means which is none: by its name in another
// program, or by the last part of its key. It returns "" if there is no such setting.
func Meant(name string) string {
	name = strings.ToLower(strings.ReplaceAll(name, "_", "-"))
	if key := otherNames[name]; key != "" {
		return key
	}
	for _, key := range Keys() {
		last := key[strings.LastIndexByte(key, '.')+1:]
		if strings.ReplaceAll(last, "_", "-") == name {
			return key
		}
	}
	return ""
}

// sectionOf is the top-level section of a key.
func sectionOf(key string) string {
	section, _, _ := strings.Cut(key, ".")
	return section
}

// isSection reports whether some keys begin with name and a dot.
func isSection(name string) bool {
	return slices.ContainsFunc(Keys(), func(key string) bool { return strings.HasPrefix(key, name+".") })
}

// keysUnder lists the names of settings and sections that follow prefix.
func keysUnder(prefix string) []string {
	var names []string
	for _, key := range Keys() {
		if rest, ok := strings.CutPrefix(key, prefix); ok {
			name, _, _ := strings.Cut(rest, ".")
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// sections lists the top-level sections.
func sections() []string { return keysUnder("") }
