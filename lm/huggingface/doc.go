// Package huggingface writes and reads the folders in which the transformers library
// keeps models: config.json, weights in safetensors files, and tokenizer.json. Package
// config translates the configuration and the names of the weights.
package huggingface

const tokenizerConfigFile = "tokenizer_config.json"
