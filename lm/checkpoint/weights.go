package checkpoint

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/koala-lm/koala-lm/internal/safetensors"
	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/lm"
)

// InitWeights overwrites a model's weights by those of a safetensors file, a
// checkpoint or what another tool wrote, or of the one in a folder. Every weight of
// the model must be there in its shape; the type may be another.
func InitWeights(path string, m lm.Model) (err error) {
	if info, statErr := os.Stat(path); statErr == nil && info.IsDir() {
		if path, err = single(path); err != nil {
			return err
		}
	}
	r, err := safetensors.Open(path)
	if err != nil {
		return fmt.Errorf("read weights: %w", err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return loadWeights(r, path, m)
}

// single returns the one safetensors file of a folder.
func single(folder string) (string, error) {
	found, err := filepath.Glob(filepath.Join(folder, "*.safetensors"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("read weights: folder %s has %d .safetensors files, expected 1: name the file", folder, len(found))
	}
	return found[0], nil
}

func loadWeights(r *safetensors.Reader, path string, m lm.Model) error {
	if err := matchWeights(r, m); err != nil {
		return fmt.Errorf("the weights in %s do not fit the model: %w", path, err)
	}
	err := torch.Do(func(s *torch.Scope) error {
		s.NoGrad(func() {
			for _, p := range m.Params() {
				s.CopyInto(p.Tensor, tensor(s, r, p.Name))
			}
		})
		return s.Err()
	})
	if err != nil {
		return fmt.Errorf("read weights from %s: %w", path, err)
	}
	return nil
}

// matchWeights wants the model's names and shapes, neither more nor fewer.
func matchWeights(r *safetensors.Reader, m lm.Model) error {
	var wrong []string
	expected := map[string]bool{}
	for _, p := range m.Params() {
		expected[p.Name] = true
		info, ok := r.Lookup(p.Name)
		if !ok {
			wrong = append(wrong, p.Name+" is missing")
		} else if want := torch.Shape(p.Tensor); !slices.Equal(info.Shape, want) {
			wrong = append(wrong, fmt.Sprintf("%s is %d, the model's is %d", p.Name, info.Shape, want))
		}
	}
	for _, info := range r.Tensors() {
		if isWeight(info.Name) && !expected[info.Name] {
			wrong = append(wrong, info.Name+" is none of the model's")
		}
	}
	if len(wrong) > 4 {
		wrong = append(wrong[:4], fmt.Sprintf("and %d more", len(wrong)-4))
	}
	if len(wrong) > 0 {
		return errors.New(strings.Join(wrong, "; "))
	}
	return nil
}
