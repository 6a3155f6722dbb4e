package huggingface

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/data/tokenizer"
	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/lm/checkpoint"
	"github.com/koala-lm/koala-lm/lm/huggingface/config"
)

// Open makes a folder's model, with its weights, on device. ends are the ids of the
// tokens that end a text.
func Open(folder string, device gotch.Device) (m lm.Model, ends []int64, err error) {
	f, err := config.Open(folder)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if m, err = lm.New(f.Model.Shape, 0, device); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", folder, err)
	}
	if err := load(f, m); err != nil {
		m.Close()
		return nil, nil, err
	}
	return m, f.Model.EOS, nil
}

// InitFrom overwrites a model's weights with the weights of a folder or of a
// safetensors file. tok is the tokenizer of the training data: a folder with another
// tokenizer is refused.
func InitFrom(path string, m lm.Model, tok tokenizer.Tokenizer) error {
	if !config.Is(path) {
		return checkpoint.InitWeights(path, m)
	}
	file := filepath.Join(path, config.TokenizerFile)
	theirs, err := tokenizer.Load(file)
	if err == nil {
		err = sameTokens(theirs, tok)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: prepare the data with --tokenizer %s", err, file)
	}
	return Init(path, m)
}

// sameTokens returns an error unless every id of the data is the same token in both
// tokenizers.
func sameTokens(folder, data tokenizer.Tokenizer) error {
	if folder.Vocab() != data.Vocab() {
		return fmt.Errorf("the data has %d ids, the tokenizer of the folder %d", data.Vocab(), folder.Vocab())
	}
	for id := range uint32(data.Vocab()) {
		if a, b := folder.Token(id), data.Token(id); a != b {
			return fmt.Errorf("id %d of the data is %q, and to the tokenizer of the folder it is %q", id, b, a)
		}
	}
	return nil
}

// Init overwrites a model's weights with a folder's weights. The model must have the
// shape that the folder's config.json describes; its context may be shorter if no
// weight depends on it.
func Init(folder string, m lm.Model) (err error) {
	f, err := config.Open(folder)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if differs := config.Differences(f.Model.Shape, m.Config()); len(differs) > 0 {
		return fmt.Errorf("the model's shape differs from %s: %s", folder, strings.Join(differs, "; "))
	}
	return load(f, m)
}

// load overwrites a model's weights with the weights of a folder of the same shape.
// The folder must have exactly the model's weights; the type may differ.
func load(f *config.Folder, m lm.Model) error {
	known := map[string]bool{}
	for _, p := range m.Params() {
		if err := f.Expect(p.Name, torch.Shape(p.Tensor)); err != nil {
			return err
		}
		info, _, _ := f.Lookup(f.Model.Source(p.Name).Name)
		known[info.Name] = true
	}
	for _, name := range f.Names() {
		tied := m.Config().Tied && name == f.Model.Source("lm_head.weight").Name
		if !known[name] && !tied && !checkpoint.Derived(name) {
			return fmt.Errorf("the weights in %s do not fit its %s: %s is not a tensor of the model", f.Path, config.File, name)
		}
	}
	heads := map[int]int64{0: int64(m.Config().Heads), 1: int64(m.Config().KVHeads), 2: int64(m.Config().KVHeads)}
	for _, p := range m.Params() {
		// One scope each: memory that just holds the model does not hold a second
		// copy.
		err := torch.Do(func(s *torch.Scope) error {
			s.NoGrad(func() {
				source := f.Model.Source(p.Name)
				info, r, _ := f.Lookup(source.Name)
				t := checkpoint.ReadTensor(s, r, info.Name)
				if source.Parts > 0 {
					t = part(s, t, source, heads[source.Part])
				}
				s.CopyInto(p.Tensor, t)
			})
			return s.Err()
		})
		if err != nil {
			return fmt.Errorf("read weights from %s: %w", f.Path, err)
		}
	}
	return nil
}

// part returns one of the matrices that a tensor [heads * parts * width, ...] holds
// head by head.
func part(s *torch.Scope, t *ts.Tensor, source config.Source, heads int64) *ts.Tensor {
	shape := torch.Shape(t)
	if !s.OK() {
		return nil
	}
	rows, rest := shape[0]/int64(source.Parts), shape[1:]
	byHead := s.Reshape(t, append([]int64{heads, int64(source.Parts), rows / heads}, rest...)...)
	return s.Reshape(s.Select(byHead, 1, int64(source.Part)), append([]int64{rows}, rest...)...)
}

// join is the inverse of part.
func join(s *torch.Scope, parts []*ts.Tensor, heads int64) *ts.Tensor {
	shape := torch.Shape(parts[0])
	if !s.OK() {
		return nil
	}
	byHead := make([]*ts.Tensor, len(parts))
	for i, t := range parts {
		byHead[i] = s.Reshape(t, append([]int64{heads, shape[0] / heads}, shape[1:]...)...)
	}
	return s.Reshape(s.Stack(1, byHead...), append([]int64{shape[0] * int64(len(parts))}, shape[1:]...)...)
}
