package huggingface

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/koala-lm/koala-lm/data/tokenizer"
	"github.com/koala-lm/koala-lm/internal/atomicfile"
	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/lm/checkpoint"
)

// Export writes a folder that transformers loads: a GPT2LMHeadModel or a
// LlamaForCausalLM with the same logits, and its tokenizer. The folder appears
// whole. With replace, one that is a model's already gives way.
func Export(folder string, m lm.Model, tok tokenizer.Tokenizer, replace bool) (err error) {
	var separator *int64
	if id, ok := tok.Separator(); ok {
		at := int64(id)
		separator = &at
	}
	config, err := describe(m.Config(), separator)
	if err != nil {
		return err
	}
	if err := mayWrite(folder, replace); err != nil {
		return err
	}
	made, err := os.MkdirTemp(filepath.Dir(folder), "."+filepath.Base(folder)+".*")
	if err != nil {
		return fmt.Errorf("export: make a folder in %s: %w", filepath.Dir(folder), errors.Unwrap(err))
	}
	defer os.RemoveAll(made) // nothing is there once it has its name
	if err := os.Chmod(made, 0o755); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	files := map[string]func(w io.Writer) error{
		ConfigFile:          asJSON(config),
		TokenizerConfigFile: asJSON(tokenizerConfig(tok, m.Config().Context)),
		TokenizerFile:       tok.WriteJSON,
	}
	for name, write := range files {
		if err := atomicfile.Write(filepath.Join(made, name), write); err != nil {
			return fmt.Errorf("export: %w", err)
		}
	}
	if err := checkpoint.WriteWeights(filepath.Join(made, WeightsFile), m); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	return rename(made, folder)
}

// mayWrite refuses to replace what is not a model.
func mayWrite(folder string, replace bool) error {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	if _, err := os.Stat(filepath.Join(folder, ConfigFile)); err != nil {
		return fmt.Errorf("export: %s has files in it and is no model's folder: it is left as it is", folder)
	}
	if !replace {
		return fmt.Errorf("export: %s is there already", folder)
	}
	return nil
}

// rename gives the folder its name, and takes away the one before.
func rename(made, folder string) error {
	old := made + ".old"
	if err := os.Rename(folder, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("export: %w", err)
	}
	if err := os.Rename(made, folder); err != nil {
		return errors.Join(fmt.Errorf("export: %w", err), os.Rename(old, folder))
	}
	if err := atomicfile.SyncFolder(filepath.Dir(folder)); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	return os.RemoveAll(old)
}

func asJSON(v any) func(w io.Writer) error {
	return func(w io.Writer) error {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		return encoder.Encode(v)
	}
}

// tokenizerConfig makes AutoTokenizer take tokenizer.json as it is.
func tokenizerConfig(tok tokenizer.Tokenizer, context int64) map[string]any {
	config := map[string]any{
		"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": context, "clean_up_tokenization_spaces": false,
	}
	if id, ok := tok.Separator(); ok {
		config["eos_token"], config["bos_token"] = tok.Token(id), tok.Token(id)
	}
	if id, ok := tok.Unknown(); ok {
		config["unk_token"] = tok.Token(id)
	}
	return config
}
