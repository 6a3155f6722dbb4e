package checkpoint

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/atomicfile"
	"github.com/koala-lm/koala-lm/internal/safetensors"
	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/lm"
)

// InitWeights overwrites a model's weights with the weights of a safetensors file: a
// checkpoint, another tool's file, or the only such file of a folder. The file must
// have every weight of the model in its shape; the type may differ.
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

// single returns the only safetensors file of a folder.
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
				s.CopyInto(p.Tensor, ReadTensor(s, r, nameIn(r, p.Name)))
			}
		})
		return s.Err()
	})
	if err != nil {
		return fmt.Errorf("read weights from %s: %w", path, err)
	}
	return nil
}

// matchWeights returns an error unless the file has exactly the model's names and
// shapes.
func matchWeights(r *safetensors.Reader, m lm.Model) error {
	var wrong []string
	expected := map[string]bool{}
	for _, p := range m.Params() {
		name := nameIn(r, p.Name)
		expected[name] = true
		info, ok := r.Lookup(name)
		if !ok {
			wrong = append(wrong, p.Name+" is missing")
		} else if want := torch.Shape(p.Tensor); !slices.Equal(info.Shape, want) {
			wrong = append(wrong, fmt.Sprintf("%s is %d, the model's is %d", p.Name, info.Shape, want))
		}
	}
	for _, info := range r.Tensors() {
		if isWeight(info.Name) && !expected[info.Name] && !Derived(info.Name) && !(m.Config().Tied && isHead(info.Name)) {
			wrong = append(wrong, info.Name+" is not a tensor of the model")
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

// nameIn returns the file's name for a weight. Hugging Face's first models were
// saved without the prefix of later ones.
func nameIn(r *safetensors.Reader, name string) string {
	if _, ok := r.Lookup(name); ok {
		return name
	}
	for _, prefix := range []string{"transformer.", "model."} {
		if bare, found := strings.CutPrefix(name, prefix); found {
			if _, ok := r.Lookup(bare); ok {
				return bare
			}
		}
	}
	return name
}

// Derived reports whether a tensor follows from the shape of the model, such as the
// masks and tables of angles that other tools write.
func Derived(name string) bool {
	for _, suffix := range []string{".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias", "rotary_emb.inv_freq"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}

// isHead reports whether a tensor is the weight of the output layer. Other tools
// write it a second time if it is tied to the embedding.
func isHead(name string) bool { return name == "lm_head.weight" || name == "decoder.weight" }

// WriteWeights writes a model's weights, and nothing else, to a safetensors file
// that InitWeights and other tools read.
func WriteWeights(path string, m lm.Model) error { return WriteParams(path, m.Params()) }

// WriteParams writes named tensors to a safetensors file.
func WriteParams(path string, params []lm.Param) error {
	var tensors []safetensors.Tensor
	for _, p := range params {
		dtype, ok := dtypes[p.Tensor.DType()]
		if !ok {
			return fmt.Errorf("write weights: the format has no type for %s, which is %s", p.Name, torch.Describe(p.Tensor))
		}
		tensors = append(tensors, safetensors.Tensor{
			Info: safetensors.Info{Name: p.Name, DType: dtype, Shape: torch.Shape(p.Tensor)},
			Data: weightBytes{p.Tensor},
		})
	}
	return atomicfile.Write(path, func(w io.Writer) error {
		return safetensors.Write(w, map[string]string{"format": "pt"}, tensors)
	})
}

// weightBytes is a tensor's content, which is fetched only when it is written.
type weightBytes struct{ t *ts.Tensor }

func (b weightBytes) WriteTo(w io.Writer) (int64, error) {
	content := make([]byte, torch.ByteCount(b.t))
	err := torch.Do(func(s *torch.Scope) error {
		s.ReadBytes(content, b.t)
		return s.Err()
	})
	if err != nil {
		return 0, err
	}
	n, err := w.Write(content)
	return int64(n), err
}
