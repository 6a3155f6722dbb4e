package checkpoint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/sugarme/gotch/ts"
	"golang.org/x/sys/unix"

	"github.com/koala-lm/koala-lm/internal/safetensors"
	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/lm"
)

// Prefixes of tensors that are not weights.
const (
	optimizerPrefix = "optimizer/"
	carriedPrefix   = "carried/"
)

func isWeight(name string) bool {
	return !strings.HasPrefix(name, optimizerPrefix) && !strings.HasPrefix(name, carriedPrefix)
}

// image is a checkpoint in CPU memory: a copy of the state, so that it can be
// written while training changes the state itself.
type image struct {
	state    State
	infos    []safetensors.Info
	contents map[string][]byte
}

// take copies a snapshot into the memory of the previous image.
func (im *image) take(snap *lm.Snapshot, origin Origin) error {
	im.state = State{
		Version: Version, Origin: origin, Progress: snap.Progress, Cursor: snap.Cursor,
		Optimizer: OptimizerState{Kind: snap.Optimizer.Kind, Scalars: exactly(snap.Optimizer.Scalars), Ints: snap.Optimizer.Ints},
	}
	im.infos = im.infos[:0]
	if im.contents == nil {
		im.contents = map[string][]byte{}
	}
	return torch.Do(func(s *torch.Scope) error {
		for _, p := range snap.Weights {
			if !isWeight(p.Name) {
				return fmt.Errorf("checkpoint: a weight cannot be named %q", p.Name)
			}
			im.add(s, p.Name, p.Tensor)
		}
		for name, t := range snap.Optimizer.Tensors {
			im.add(s, optimizerPrefix+name, t)
		}
		for i, t := range snap.Carried {
			im.add(s, fmt.Sprint(carriedPrefix, i), t)
		}
		return s.Err()
	})
}

func (im *image) add(s *torch.Scope, name string, t *ts.Tensor) {
	dtype, ok := dtypes[t.DType()]
	if !ok {
		s.Fail(fmt.Errorf("checkpoint: the format has no type for %s, which is %s", name, torch.Describe(t)))
		return
	}
	n := torch.ByteCount(t)
	content := im.contents[name]
	if int64(cap(content)) < n {
		im.release(name)
		var err error
		if content, err = im.allocate(n); err != nil {
			s.Fail(fmt.Errorf("%w: %w", errNoMemory, err))
			return
		}
	}
	content = content[:n]
	s.ReadBytes(content, t)
	im.infos = append(im.infos, safetensors.Info{Name: name, DType: dtype, Shape: torch.Shape(t)})
	im.contents[name] = content
}

// errNoMemory is returned where the copy of a state does not fit in memory.
var errNoMemory = errors.New("there is no memory for a copy of the state: lower train.batch")

// mapped is the size from which a tensor's copy lies outside Go's heap, which would end
// the process where there is no more memory. A test replaces it and mapMemory.
var mapped = int64(64 << 10)

var mapMemory = func(n int) ([]byte, error) {
	return unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
}

func (im *image) allocate(n int64) ([]byte, error) {
	if n < mapped {
		return make([]byte, n), nil
	}
	return mapMemory(int(n))
}

// release frees a tensor's copy.
func (im *image) release(name string) {
	if content := im.contents[name]; int64(cap(content)) >= mapped {
		_ = unix.Munmap(content[:cap(content)]) // it was mapped
	}
	delete(im.contents, name)
}

// free frees all copies.
func (im *image) free() {
	for name := range im.contents {
		im.release(name)
	}
}

// write writes the file.
func (im *image) write(w io.Writer) error {
	state, err := json.Marshal(im.state)
	if err != nil {
		return fmt.Errorf("the state as JSON: %w", err)
	}
	// PyTorch's readers want to know the framework.
	metadata := map[string]string{"format": "pt", stateKey: string(state)}
	metadata[checksumKey], err = checksum(metadata, im.infos, func(info safetensors.Info) ([]byte, error) {
		return im.contents[info.Name], nil
	})
	if err != nil {
		return err
	}
	tensors := make([]safetensors.Tensor, len(im.infos))
	for i, info := range im.infos {
		tensors[i] = safetensors.Tensor{Info: info, Data: bytes.NewReader(im.contents[info.Name])}
	}
	return safetensors.Write(w, metadata, tensors)
}
