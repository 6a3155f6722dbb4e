package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/safetensors"
	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/koala"
	"github.com/koala-lm/koala-lm/lm"
)

// A File is an open, undamaged checkpoint.
type File struct {
	Path   string
	State  State
	reader *safetensors.Reader
}

// A DamagedError names a damaged checkpoint and the damage.
type DamagedError struct {
	Path   string
	Reason error
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("checkpoint %s cannot be used: %v", e.Path, e.Reason)
}

func (e *DamagedError) Unwrap() error { return e.Reason }

// Open opens a checkpoint and reads all of it to verify its checksum. A damaged file
// gives a *DamagedError.
func Open(path string) (*File, error) {
	r, err := safetensors.Open(path)
	var format *safetensors.FormatError
	if errors.As(err, &format) {
		return nil, &DamagedError{path, format}
	}
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	f := &File{Path: path, reader: r}
	if err := f.verify(); err != nil {
		return nil, errors.Join(&DamagedError{path, err}, r.Close())
	}
	if v := f.State.Version; v != Version {
		return nil, errors.Join(fmt.Errorf("checkpoint %s has version %d, and this koala-lm reads version %d", path, v, Version), r.Close())
	}
	return f, nil
}

// Dataset returns the path of the dataset that the weights were trained on. The path is
// recorded from the checkpoint's folder in its project. A copy elsewhere finds it from
// the project's folder: beside itself, or in the working folder.
func (f *File) Dataset() string {
	path := f.State.Origin.Dataset
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	beside := filepath.Dir(f.Path)
	inProject := path
	for strings.HasPrefix(inProject, "../") {
		inProject = inProject[len("../"):]
	}
	recorded := filepath.Join(beside, path)
	for _, place := range []string{recorded, filepath.Join(beside, inProject), inProject} {
		if _, err := os.Stat(place); err == nil {
			return place
		}
	}
	return recorded
}

// verify reads the whole file and checks its checksum.
func (f *File) verify() error {
	text, ok := f.reader.Metadata()[stateKey]
	if !ok {
		return errors.New("it is a safetensors file, but no checkpoint of koala-lm (train --init takes weights alone)")
	}
	if err := verifyChecksum(f.reader); err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(text), &f.State); err != nil {
		return fmt.Errorf("its metadata: %w", err)
	}
	return nil
}

// Close closes the file.
func (f *File) Close() error { return f.reader.Close() }

// Tensor returns a tensor on the CPU, which the scope owns.
func (f *File) Tensor(s *torch.Scope, name string) *ts.Tensor { return ReadTensor(s, f.reader, name) }

// ReadTensor returns a tensor of a safetensors file on the CPU, which the scope owns.
func ReadTensor(s *torch.Scope, r *safetensors.Reader, name string) *ts.Tensor {
	info, ok := r.Lookup(name)
	if !ok {
		s.Fail(fmt.Errorf("there is no tensor %q", name))
		return nil
	}
	dtype, ok := dtypeOf(info.DType)
	if !ok {
		s.Fail(fmt.Errorf("tensor %q is %s, which libtorch does not have", name, info.DType))
		return nil
	}
	n, err := info.Bytes()
	if err != nil {
		s.Fail(err)
		return nil
	}
	content := make([]byte, n)
	if err := r.Read(name, content); err != nil {
		s.Fail(err)
		return nil
	}
	return s.FromBytes(content, dtype, info.Shape...)
}

// Restore sets a trainer to the state of the checkpoint. The trainer must have the
// run's settings and data.
func (f *File) Restore(t *lm.Trainer) error {
	err := torch.Do(func(s *torch.Scope) error {
		snap := f.snapshot(s)
		if err := s.Err(); err != nil {
			return err
		}
		return t.Restore(snap)
	})
	if err != nil {
		return fmt.Errorf("checkpoint %s: %w", f.Path, err)
	}
	return nil
}

// snapshot reads all tensors.
func (f *File) snapshot(s *torch.Scope) *lm.Snapshot {
	snap := &lm.Snapshot{
		Progress: f.State.Progress, Cursor: f.State.Cursor,
		Optimizer: koala.State{
			Kind:    f.State.Optimizer.Kind,
			Scalars: plainly(f.State.Optimizer.Scalars), Ints: f.State.Optimizer.Ints, Tensors: map[string]*ts.Tensor{},
		},
	}
	carried := map[int]*ts.Tensor{}
	for _, info := range f.reader.Tensors() {
		t := f.Tensor(s, info.Name)
		if name, ok := strings.CutPrefix(info.Name, optimizerPrefix); ok {
			snap.Optimizer.Tensors[name] = t
		} else if number, ok := strings.CutPrefix(info.Name, carriedPrefix); ok {
			i, err := strconv.Atoi(number)
			if err != nil {
				s.Fail(fmt.Errorf("tensor %q: %w", info.Name, err))
			}
			carried[i] = t
		} else {
			snap.Weights = append(snap.Weights, lm.Param{Name: info.Name, Tensor: t})
		}
	}
	for i := range len(carried) {
		snap.Carried = append(snap.Carried, carried[i])
	}
	return snap
}

// LoadWeights overwrites a model's weights with the checkpoint's.
func (f *File) LoadWeights(m lm.Model) error { return loadWeights(f.reader, f.Path, m) }
