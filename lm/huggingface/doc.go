// Package huggingface writes and reads the folders in which the transformers
// library keeps models: config.json, model.safetensors and tokenizer.json. lm
// names and lays out a Transformer's weights as GPT2LMHeadModel and
// LlamaForCausalLM do, so that only the configuration is to be translated.
package huggingface

// Names of the files in a folder.
const (
	ConfigFile          = "config.json"
	WeightsFile         = "model.safetensors"
	TokenizerFile       = "tokenizer.json"
	TokenizerConfigFile = "tokenizer_config.json"
)
