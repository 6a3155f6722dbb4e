package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/koala-lm/koala-lm/internal/safetensors"
)

// Names of the files in a folder.
const (
	File             = "config.json"
	GenerationFile   = "generation_config.json"
	WeightsFile      = "model.safetensors"
	WeightsIndexFile = "model.safetensors.index.json"
	TokenizerFile    = "tokenizer.json"
)

// A Folder is a model in the layout of transformers: config.json, and weights in one
// or several safetensors files.
type Folder struct {
	Path  string
	Model Model

	readers []*safetensors.Reader
	of      map[string]*safetensors.Reader // the file of each tensor
}

// Is reports whether a folder looks like a folder of transformers.
func Is(path string) bool {
	_, err := os.Stat(filepath.Join(path, File))
	return err == nil
}

// Open reads a folder's config.json and the headers of its weights, and compares the
// two. The caller closes it.
func Open(path string) (*Folder, error) {
	file := filepath.Join(path, File)
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("open model: %w", err)
	}
	m, err := Parse(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if eos, err := generationEOS(filepath.Join(path, GenerationFile)); err != nil {
		return nil, err
	} else if len(eos) > 0 {
		m.EOS = eos
	}
	f := &Folder{Path: path, Model: m, of: map[string]*safetensors.Reader{}}
	err = f.openWeights()
	if err == nil {
		err = f.compare()
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// generationEOS reads the ids that end a text from generation_config.json, which
// transformers prefers to config.json. Without the file it returns none.
func generationEOS(path string) ([]int64, error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open model: %w", err)
	}
	f, err := newFields(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	eos := f.ids("eos_token_id")
	if err := f.err(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return eos, nil
}

// Close closes the files of the weights.
func (f *Folder) Close() error {
	var errs []error
	for _, r := range f.readers {
		errs = append(errs, r.Close())
	}
	return errors.Join(errs...)
}

// Lookup returns the tensor of a parameter's source and the reader of its file. The
// first models were saved without the prefix of later ones.
func (f *Folder) Lookup(name string) (safetensors.Info, *safetensors.Reader, bool) {
	for _, prefix := range []string{"", "transformer.", "model.", "gpt_neox."} {
		if bare, found := strings.CutPrefix(name, prefix); found {
			if r, ok := f.of[bare]; ok {
				info, _ := r.Lookup(bare)
				return info, r, true
			}
		}
	}
	return safetensors.Info{}, nil, false
}

// Names returns the names of all tensors, in order.
func (f *Folder) Names() []string {
	list := make([]string, 0, len(f.of))
	for name := range f.of {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

// openWeights opens the files that hold the weights.
func (f *Folder) openWeights() error {
	files, err := f.weightFiles()
	if err != nil {
		return err
	}
	for _, name := range files {
		r, err := safetensors.Open(filepath.Join(f.Path, name))
		if err != nil {
			return fmt.Errorf("read weights: %w", err)
		}
		f.readers = append(f.readers, r)
		for _, info := range r.Tensors() {
			if f.of[info.Name] != nil {
				return fmt.Errorf("read weights: %s has %s, and so has a file before it", filepath.Join(f.Path, name), info.Name)
			}
			f.of[info.Name] = r
		}
	}
	return nil
}

// weightFiles returns the names of the folder's safetensors files.
func (f *Folder) weightFiles() ([]string, error) {
	index := filepath.Join(f.Path, WeightsIndexFile)
	content, err := os.ReadFile(index)
	if err == nil {
		return shards(index, content)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read weights: %w", err)
	}
	if _, err := os.Stat(filepath.Join(f.Path, WeightsFile)); err == nil {
		return []string{WeightsFile}, nil
	}
	found, err := filepath.Glob(filepath.Join(f.Path, "*.safetensors"))
	if err == nil && len(found) == 1 {
		return []string{filepath.Base(found[0])}, nil
	}
	if old, _ := filepath.Glob(filepath.Join(f.Path, "pytorch_model*.bin*")); len(found) == 0 && len(old) > 0 {
		return nil, fmt.Errorf(`read weights: %s holds a pickle, which is not opened: convert it with python3 -c "from transformers import AutoModelForCausalLM as M; M.from_pretrained('%s').save_pretrained('%s-safetensors')"`,
			old[0], f.Path, filepath.Clean(f.Path))
	}
	return nil, fmt.Errorf("read weights: %s has %d .safetensors files and neither %s nor %s", f.Path, len(found), WeightsFile, WeightsIndexFile)
}

// shards returns the files that an index names.
func shards(path string, content []byte) ([]string, error) {
	var index struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(content, &index); err != nil {
		return nil, fmt.Errorf("read weights: %s: %w", path, err)
	}
	if len(index.WeightMap) == 0 {
		return nil, fmt.Errorf("read weights: %s names no tensor in weight_map", path)
	}
	var files []string
	for tensor, file := range index.WeightMap {
		if file == "" || file != filepath.Base(file) || !strings.HasSuffix(file, ".safetensors") {
			return nil, fmt.Errorf("read weights: %s puts %s into %q, which is not a .safetensors file of the folder", path, tensor, file)
		}
		if !slices.Contains(files, file) {
			files = append(files, file)
		}
	}
	slices.Sort(files)
	return files, nil
}

// compare returns an error unless the weights have the shape that config.json
// describes, so that no model is built with missing weights. It also decides whether
// the output layer is tied.
func (f *Folder) compare() error {
	shape := &f.Model.Shape
	a := shape.Architecture
	embedding, block, q := "model.embed_tokens.weight", "model.layers.%d.", int64(shape.Heads)*a.HeadWidth
	first := map[string][]int64{"self_attn.q_proj.weight": {q, shape.Embed}, "mlp.up_proj.weight": {shape.Hidden, shape.Embed}}
	if shape.GPT2() {
		embedding, block = "transformer.wte.weight", "transformer.h.%d."
		first = map[string][]int64{"attn.c_attn.weight": {shape.Embed, 3 * shape.Embed}, "mlp.c_fc.weight": {shape.Embed, shape.Hidden}}
	}
	for _, layer := range []int{0, shape.Layers - 1} {
		for name, want := range first {
			if err := f.Expect(fmt.Sprintf(block, layer)+name, want); err != nil {
				return err
			}
		}
	}
	if err := f.Expect(embedding, []int64{shape.Vocab, shape.Embed}); err != nil {
		return err
	}
	head, r, found := f.Lookup(f.Model.Source("lm_head.weight").Name)
	if !shape.Tied || !found {
		return nil
	}
	// Some files hold the tied layer a second time; if it differs from the
	// embedding, transformers uses it.
	same, from, _ := f.Lookup(f.Model.Source(embedding).Name)
	equal := head.DType == same.DType && slices.Equal(head.Shape, same.Shape)
	if equal {
		size, err := head.Bytes()
		if err != nil {
			return err
		}
		one, two := make([]byte, size), make([]byte, size)
		if err := errors.Join(r.Read(head.Name, one), from.Read(same.Name, two)); err != nil {
			return fmt.Errorf("read weights: %w", err)
		}
		equal = bytes.Equal(one, two)
	}
	shape.Tied = equal
	return nil
}

// Expect returns an error unless the folder has the parameter with the shape.
func (f *Folder) Expect(param string, shape []int64) error {
	source := f.Model.Source(param)
	info, _, ok := f.Lookup(source.Name)
	if !ok {
		return fmt.Errorf("the weights in %s do not fit its %s: %s is missing", f.Path, File, source.Name)
	}
	if want := source.Shape(shape); !slices.Equal(info.Shape, want) {
		return fmt.Errorf("the weights in %s do not fit its %s: %s is %d, and it says %d", f.Path, File, source.Name, info.Shape, want)
	}
	return nil
}

// Shape returns the shape of the source of a parameter, given the parameter's shape.
func (s Source) Shape(param []int64) []int64 {
	shape := slices.Clone(param)
	if s.Parts > 0 {
		shape[0] *= int64(s.Parts)
	}
	return shape
}
