package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/cmd/internal/request"
	"github.com/koala-lm/koala-lm/configs"
	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/data/tokenizer"
	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/internal/visible"
	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/lm/checkpoint"
	"github.com/koala-lm/koala-lm/lm/huggingface"
	"github.com/koala-lm/koala-lm/lm/huggingface/config"
	"github.com/koala-lm/koala-lm/run"
)

// trained is a model with its weights, its settings and its tokenizer. The model is a
// field and not embedded, so that trained has none of its methods.
type trained struct {
	model    lm.Model
	settings configs.Settings
	name     string // the run, or the path, for messages
	path     string // path of the weights' file
	step     int64
	dataset  string // folder of the dataset it was trained on, "" if unknown
	tokens   string // SHA-256 of its tokenizer.json, "" if unknown

	vocabulary string  // path of its tokenizer.json if the dataset does not have it
	ends       []int64 // tokens that end a text, besides the tokenizer's separator
}

// withTrained calls use with the model that a request names, on its device.
func withTrained(ctx context.Context, c request.Common, m request.Model, stderr io.Writer, use func(*trained, gotch.Device) error) error {
	return run.UntilBuilt(ctx, func(built func()) error {
		return torch.Main(c.Threads, func() error {
			device, err := torch.ParseDevice(string(c.Device))
			if err != nil {
				return err
			}
			model, err := openTrained(m, device, stderr)
			if err != nil {
				return err
			}
			defer model.model.Close()
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			built()
			return use(model, device)
		})
	})
}

// openTrained loads the weights that a request names: a run's best, or its last if
// it was never evaluated.
func openTrained(m request.Model, device gotch.Device, stderr io.Writer) (*trained, error) {
	if m.Run == "" && config.Is(m.Path) {
		return openHuggingFace(m.Path, device)
	}
	f, err := openCheckpoint(m, stderr)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	of := f.State.Origin
	t := &trained{name: m.Path, path: f.Path, step: f.State.Progress.Step, dataset: f.Dataset(), tokens: of.Tokenizer}
	if m.Run != "" {
		t.name = "run " + m.Run
	}
	if err := json.Unmarshal(of.Settings, &t.settings); err != nil {
		return nil, fmt.Errorf("checkpoint %s: its settings: %w", f.Path, err)
	}
	if t.model, err = lm.New(run.ModelConfig(t.settings.Model, of.Vocab), uint64(t.settings.Train.Seed), device); err != nil {
		return nil, err
	}
	if err := f.LoadWeights(t.model); err != nil {
		t.model.Close()
		return nil, err
	}
	return t, nil
}

// openHuggingFace opens a folder in Hugging Face's layout, which has the tokenizer
// beside the weights.
func openHuggingFace(folder string, device gotch.Device) (*trained, error) {
	model, ends, err := huggingface.Open(folder, device)
	if err != nil {
		return nil, err
	}
	t := &trained{model: model, name: folder, path: folder, vocabulary: filepath.Join(folder, config.TokenizerFile), ends: ends}
	t.settings.Eval.Batch = 1
	content, err := os.ReadFile(t.vocabulary)
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil // a dataset can still be scored
	}
	sum := sha256.Sum256(content)
	t.tokens = hex.EncodeToString(sum[:])
	return t, err
}

func openCheckpoint(m request.Model, stderr io.Writer) (*checkpoint.File, error) {
	folder := m.Path
	if m.Run != "" {
		folder = run.CheckpointFolder(m.Runs, m.Run)
	} else if info, err := os.Stat(m.Path); err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	} else if !info.IsDir() {
		return checkpoint.Open(m.Path)
	}
	f, damaged, err := checkpoint.Best(folder)
	if err != nil {
		return nil, err
	}
	for _, d := range damaged {
		visible.Fprintf(stderr, "koala-lm: %v; the one of step %d is used\n", d, f.State.Progress.Step)
	}
	return f, nil
}

// tokenizer returns the tokenizer that the model was trained with.
func (t *trained) tokenizer() (tokenizer.Tokenizer, error) {
	if t.vocabulary != "" {
		tok, err := tokenizer.Load(t.vocabulary)
		if errors.Is(err, fs.ErrNotExist) {
			tok, err = tokenizer.Load(t.path) // a folder's tokenizer, in another format
		}
		if err == nil && int64(tok.Vocab()) > t.model.Config().Vocab {
			err = fmt.Errorf("%s has %d ids, the model %d", t.vocabulary, tok.Vocab(), t.model.Config().Vocab)
		}
		return tok, err
	}
	d, err := data.Open(t.dataset, data.Unverified())
	if err != nil {
		return nil, fmt.Errorf("read the tokenizer of %s from its dataset: %w", t.name, err)
	}
	tok, err := d.Tokenizer()
	if err = errors.Join(err, t.fits(d), d.Close()); err != nil {
		return nil, err
	}
	return tok, nil
}

// fits returns an error unless the dataset was prepared with the model's tokenizer:
// the same number of ids, each for the same token.
func (t *trained) fits(d *data.Dataset) error {
	if d.Info().Tokenizer.SHA256 == t.tokens || t.tokens == "" && int64(d.Vocab()) == t.model.Config().Vocab {
		return nil
	}
	own := t.vocabulary
	if own == "" {
		own = filepath.Join(t.dataset, data.TokenizerFile)
	}
	return fmt.Errorf("dataset %s has another tokenizer (%s, %d ids) than %s was trained with (%d ids): prepare the text with --tokenizer %s",
		d.Dir(), d.Info().Tokenizer.Kind, d.Vocab(), t.name, t.model.Config().Vocab, own)
}
