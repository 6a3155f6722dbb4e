package checkpoint

import (
	"cmp"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"

	"github.com/koala-lm/koala-lm/internal/safetensors"
)

// Keys of a checkpoint's metadata.
const (
	stateKey    = "koala_lm"
	checksumKey = "crc32c"
)

// checksum returns the CRC-32C of a checkpoint's contents: its metadata, then each
// tensor's description and content, both in the order of their names. The format
// itself does not detect changed bytes in a tensor.
func checksum(metadata map[string]string, tensors []safetensors.Info, content func(safetensors.Info) ([]byte, error)) (string, error) {
	crc := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	for _, key := range slices.Sorted(maps.Keys(metadata)) {
		if key != checksumKey {
			fmt.Fprintf(crc, "%q %q\n", key, metadata[key])
		}
	}
	byName := slices.SortedFunc(slices.Values(tensors), func(a, b safetensors.Info) int { return cmp.Compare(a.Name, b.Name) })
	for _, info := range byName {
		b, err := content(info)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(crc, "%q %s %d\n", info.Name, info.DType, info.Shape)
		if _, err := crc.Write(b); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%08x", crc.Sum32()), nil
}

// verifyChecksum checks a file against its recorded checksum.
func verifyChecksum(r *safetensors.Reader) error {
	want, ok := r.Metadata()[checksumKey]
	if !ok {
		return fmt.Errorf("it has no checksum")
	}
	var buffer []byte
	got, err := checksum(r.Metadata(), r.Tensors(), func(info safetensors.Info) ([]byte, error) {
		n, err := info.Bytes()
		if err != nil {
			return nil, err
		}
		buffer = slices.Grow(buffer[:0], int(n))[:n]
		return buffer, r.Read(info.Name, buffer)
	})
	if err == nil && got != want {
		err = fmt.Errorf("its checksum is %s and should be %s", got, want)
	}
	return err
}
