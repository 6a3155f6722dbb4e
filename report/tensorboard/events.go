// Package tensorboard writes TensorBoard's event files: records of protocol
// buffers, each with its length and checksums before and after it (TFRecord).
package tensorboard

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"math"
	"time"
)

// Writer writes the events of one run.
type Writer struct {
	w   io.Writer
	err error
}

// NewWriter begins an event file.
func NewWriter(w io.Writer, started time.Time) *Writer {
	t := &Writer{w: w}
	// Event: wall_time = 1, file_version = 3.
	event := appendDouble(nil, 1, seconds(started))
	t.record(appendBytes(event, 3, []byte("brain.Event:2")))
	return t
}

// Scalar writes a value of a curve.
func (t *Writer) Scalar(tag string, at time.Time, step int64, value float64) {
	// Summary.Value: tag = 1, simple_value = 2. Summary: value = 1.
	// Event: wall_time = 1, step = 2, summary = 5.
	scalar := appendFloat(appendBytes(nil, 1, []byte(tag)), 2, float32(value))
	event := appendVarint(appendDouble(nil, 1, seconds(at)), 2, uint64(step))
	t.record(appendBytes(event, 5, appendBytes(nil, 1, scalar)))
}

// Err returns the first error met in writing.
func (t *Writer) Err() error { return t.err }

func (t *Writer) record(data []byte) {
	if t.err != nil {
		return
	}
	record := binary.LittleEndian.AppendUint64(nil, uint64(len(data)))
	record = binary.LittleEndian.AppendUint32(record, masked(record))
	record = append(record, data...)
	record = binary.LittleEndian.AppendUint32(record, masked(data))
	_, t.err = t.w.Write(record)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// masked is the checksum of TFRecord: CRC-32C, turned and shifted so that the
// checksum of data holding checksums stays strong.
func masked(data []byte) uint32 {
	crc := crc32.Checksum(data, castagnoli)
	return (crc>>15 | crc<<17) + 0xa282ead8
}

func seconds(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }

// The wire types of protocol buffers.
const (
	varint  = 0
	fixed64 = 1
	bytes   = 2
	fixed32 = 5
)

func appendKey(b []byte, field, wire uint64) []byte { return binary.AppendUvarint(b, field<<3|wire) }

func appendVarint(b []byte, field, v uint64) []byte {
	return binary.AppendUvarint(appendKey(b, field, varint), v)
}

func appendDouble(b []byte, field uint64, v float64) []byte {
	return binary.LittleEndian.AppendUint64(appendKey(b, field, fixed64), math.Float64bits(v))
}

func appendFloat(b []byte, field uint64, v float32) []byte {
	return binary.LittleEndian.AppendUint32(appendKey(b, field, fixed32), math.Float32bits(v))
}

func appendBytes(b []byte, field uint64, v []byte) []byte {
	return append(binary.AppendUvarint(appendKey(b, field, bytes), uint64(len(v))), v...)
}
