// Package tensorboard writes TensorBoard's event files: records of protocol
// buffers, each with its length and checksums before and after it (TFRecord).
package tensorboard

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math"
	"slices"
	"time"
)

// Writer writes the events of one run.
type Writer struct {
	w   io.Writer
	err error
}

// NewWriter writes the header of an event file.
func NewWriter(w io.Writer, started time.Time) *Writer {
	t := &Writer{w: w}
	// Event: wall_time = 1, file_version = 3.
	event := appendDouble(nil, 1, seconds(started))
	t.record(appendBytes(event, 3, []byte("brain.Event:2")))
	return t
}

// Scalar writes one value of a metric.
func (t *Writer) Scalar(tag string, at time.Time, step int64, value float64) {
	// Summary.Value: tag = 1, simple_value = 2. Summary: value = 1.
	// Event: wall_time = 1, step = 2, summary = 5.
	scalar := appendFloat(appendBytes(nil, 1, []byte(tag)), 2, float32(value))
	event := appendVarint(appendDouble(nil, 1, seconds(at)), 2, uint64(step))
	t.record(appendBytes(event, 5, appendBytes(nil, 1, scalar)))
}

// HParams writes the settings of the run, for TensorBoard's table of hyperparameters.
// A value is nil, a bool, a number, or is shown as text.
func (t *Writer) HParams(started time.Time, settings map[string]any) {
	// SessionStartInfo: hparams = 1 (a map: key = 1, value = 2), start_time_secs = 5.
	var info []byte
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		entry := appendBytes(appendBytes(nil, 1, []byte(key)), 2, protoValue(settings[key]))
		info = appendBytes(info, 1, entry)
	}
	info = appendDouble(info, 5, seconds(started))
	t.plugin(started, 0, "_hparams_/session_start_info", "hparams", appendBytes(nil, 3, info), nil)
}

// Ended writes the end of the run; ok is false for one that failed.
func (t *Writer) Ended(at time.Time, ok bool) {
	status := uint64(1) // STATUS_SUCCESS
	if !ok {
		status = 2 // STATUS_FAILURE
	}
	// SessionEndInfo: status = 1, end_time_secs = 2.
	info := appendDouble(appendVarint(nil, 1, status), 2, seconds(at))
	t.plugin(at, 0, "_hparams_/session_end_info", "hparams", appendBytes(nil, 4, info), nil)
}

// Text writes a text at a step.
func (t *Writer) Text(tag string, at time.Time, step int64, text string) {
	// TensorProto: dtype = 1 (DT_STRING is 7), tensor_shape = 2 (dim = 2, size = 1), string_val = 8.
	shape := appendBytes(nil, 2, appendVarint(nil, 1, 1))
	tensor := appendBytes(appendBytes(appendVarint(nil, 1, 7), 2, shape), 8, []byte(text))
	t.plugin(at, step, tag+"/text_summary", "text", nil, tensor)
}

// plugin writes a value for a plugin of TensorBoard.
func (t *Writer) plugin(at time.Time, step int64, tag, name string, content, tensor []byte) {
	// SummaryMetadata: plugin_data = 1 (plugin_name = 1, content = 2). Summary.Value:
	// tag = 1, tensor = 8, metadata = 9.
	metadata := appendBytes(nil, 1, appendBytes(appendBytes(nil, 1, []byte(name)), 2, content))
	value := appendBytes(nil, 1, []byte(tag))
	if tensor != nil {
		value = appendBytes(value, 8, tensor)
	}
	value = appendBytes(value, 9, metadata)
	event := appendVarint(appendDouble(nil, 1, seconds(at)), 2, uint64(step))
	t.record(appendBytes(event, 5, appendBytes(nil, 1, value)))
}

// protoValue encodes google.protobuf.Value: null_value = 1, number_value = 2,
// string_value = 3, bool_value = 4.
func protoValue(value any) []byte {
	switch v := value.(type) {
	case nil:
		return appendVarint(nil, 1, 0)
	case bool:
		if v {
			return appendVarint(nil, 4, 1)
		}
		return appendVarint(nil, 4, 0)
	case int64:
		return appendDouble(nil, 2, float64(v))
	case float64:
		return appendDouble(nil, 2, v)
	}
	return appendBytes(nil, 3, []byte(fmt.Sprint(value)))
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

// masked is the checksum of TFRecord: CRC-32C, rotated and shifted, because the CRC of
// data that contains its own CRC is weak.
func masked(data []byte) uint32 {
	crc := crc32.Checksum(data, castagnoli)
	return (crc>>15 | crc<<17) + 0xa282ead8
}

func seconds(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }

// The wire types of protocol buffers.
const (
	varint          = 0
	fixed64         = 1
	lengthDelimited = 2
	fixed32         = 5
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
	return append(binary.AppendUvarint(appendKey(b, field, lengthDelimited), uint64(len(v))), v...)
}
