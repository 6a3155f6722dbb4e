package huggingface

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/data/tokenizer"
	"github.com/koala-lm/koala-lm/internal/atomicfile"
	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/lm/checkpoint"
	"github.com/koala-lm/koala-lm/lm/huggingface/config"
)

// Export writes a folder that transformers loads: a model with the same logits, and
// its tokenizer. It refuses a model that transformers lacks before it writes
// anything. The folder appears whole. With replace, it replaces an existing model's
// folder.
func Export(folder string, m lm.Model, tok tokenizer.Tokenizer, replace bool) (err error) {
	fields, described, err := config.Describe(m.Config())
	if err != nil {
		return err
	}
	var separator any // null without one
	if id, ok := tok.Separator(); ok {
		separator = int64(id)
	}
	fields["bos_token_id"], fields["eos_token_id"], fields["pad_token_id"] = separator, separator, separator
	if err := mayWrite(folder, replace); err != nil {
		return err
	}
	made, err := os.MkdirTemp(filepath.Dir(folder), "."+filepath.Base(folder)+".*")
	if err != nil {
		return fmt.Errorf("export: make a folder in %s: %w", filepath.Dir(folder), errors.Unwrap(err))
	}
	defer os.RemoveAll(made) // without effect after the rename
	if err := os.Chmod(made, 0o755); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	generation := map[string]any{"bos_token_id": separator, "eos_token_id": separator, "pad_token_id": separator}
	files := map[string]func(w io.Writer) error{
		config.File:           asJSON(fields),
		config.GenerationFile: asJSON(generation),
		tokenizerConfigFile:   asJSON(tokenizerConfig(tok, m.Config().Context)),
		config.TokenizerFile:  tok.WriteJSON,
	}
	for name, write := range files {
		if err := atomicfile.Write(filepath.Join(made, name), write); err != nil {
			return fmt.Errorf("export: %w", err)
		}
	}
	if err := writeWeights(filepath.Join(made, config.WeightsFile), m, described); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	return rename(made, folder)
}

// writeWeights writes a model's weights under the names of its family.
func writeWeights(path string, m lm.Model, described config.Model) error {
	return torch.Do(func(s *torch.Scope) error {
		var params []lm.Param
		parts := map[string][]*ts.Tensor{}
		var err error
		s.NoGrad(func() {
			for _, p := range m.Params() {
				source := described.Source(p.Name)
				p.Name = source.Name
				if source.Parts > 0 {
					if parts[p.Name] = append(parts[p.Name], p.Tensor); len(parts[p.Name]) < source.Parts {
						continue
					}
					p.Tensor = join(s, parts[p.Name], int64(m.Config().Heads))
				}
				params = append(params, p)
			}
			if s.OK() {
				err = checkpoint.WriteParams(path, params)
			}
		})
		return errors.Join(s.Err(), err)
	})
}

// mayWrite refuses to replace a folder that holds no model.
func mayWrite(folder string, replace bool) error {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	_, err = os.Stat(filepath.Join(folder, config.File))
	if err != nil || slices.ContainsFunc(entries, fs.DirEntry.IsDir) {
		return fmt.Errorf("export: %s has other files in it than a model's folder: give another --out", folder)
	}
	if !replace {
		return fmt.Errorf("export: %s is there already", folder)
	}
	return nil
}

// rename gives the folder its name, and removes the folder that had it.
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

// tokenizerConfig makes AutoTokenizer use tokenizer.json unchanged.
func tokenizerConfig(tok tokenizer.Tokenizer, context int64) map[string]any {
	config := map[string]any{
		"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": context, "clean_up_tokenization_spaces": false,
	}
	if id, ok := tok.Separator(); ok {
		config["eos_token"], config["bos_token"], config["pad_token"] = tok.Token(id), tok.Token(id), tok.Token(id)
	}
	if id, ok := tok.Unknown(); ok {
		config["unk_token"] = tok.Token(id)
	}
	return config
}
