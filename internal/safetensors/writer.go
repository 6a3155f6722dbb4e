package safetensors

import (
	"encoding/binary"
	"fmt"
	"io"
)

// A Tensor is an input of Write. Write calls Data once, in the order of the file,
// and expects exactly the bytes of the tensor's type and shape. So a tensor on a
// device can be fetched when its turn comes.
type Tensor struct {
	Info
	Data io.WriterTo
}

// Write writes a whole file. The bytes do not depend on the order of metadata and
// tensors. They equal the reference implementation's, except that its metadata has
// no fixed order.
func Write(w io.Writer, metadata map[string]string, tensors []Tensor) error {
	infos := make([]Info, len(tensors))
	data := make(map[string]io.WriterTo, len(tensors))
	for i, t := range tensors {
		infos[i], data[t.Name] = t.Info, t.Data
	}
	entries, err := layout(infos)
	if err != nil {
		return err
	}
	header, err := formatHeader(entries, metadata)
	if err != nil {
		return err
	}
	if _, err := w.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(header)))); err != nil {
		return err
	}
	if _, err := w.Write(header); err != nil {
		return err
	}
	for _, e := range entries {
		n, err := data[e.Name].WriteTo(w)
		if err != nil {
			return fmt.Errorf("write tensor %q: %w", e.Name, err)
		}
		if n != e.end-e.begin {
			return formatError("tensor %v: %d bytes of data, where its type and shape make %d", e.Info, n, e.end-e.begin)
		}
	}
	return nil
}
