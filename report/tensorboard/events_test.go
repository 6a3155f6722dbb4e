package tensorboard

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"testing"
	"time"
)

// message decodes a protocol buffer into its fields: varints and fixed numbers as
// uint64, the rest as []byte.
func message(t *testing.T, b []byte) map[uint64][]any {
	t.Helper()
	fields := map[uint64][]any{}
	for len(b) > 0 {
		key, n := binary.Uvarint(b)
		if n <= 0 {
			t.Fatalf("a key in % x", b)
		}
		b = b[n:]
		var value any
		switch key & 7 {
		case varint:
			v, n := binary.Uvarint(b)
			value, b = v, b[n:]
		case fixed64:
			value, b = binary.LittleEndian.Uint64(b), b[8:]
		case fixed32:
			value, b = uint64(binary.LittleEndian.Uint32(b)), b[4:]
		default:
			length, n := binary.Uvarint(b)
			value, b = b[n:n+int(length)], b[n+int(length):]
		}
		fields[key>>3] = append(fields[key>>3], value)
	}
	return fields
}

// records splits a file of TFRecords and checks the lengths and checksums.
func records(t *testing.T, file []byte) [][]byte {
	t.Helper()
	var list [][]byte
	for len(file) > 0 {
		length := binary.LittleEndian.Uint64(file)
		if binary.LittleEndian.Uint32(file[8:]) != masked(file[:8]) {
			t.Fatal("the checksum of a length")
		}
		data := file[12 : 12+length]
		if binary.LittleEndian.Uint32(file[12+length:]) != masked(data) {
			t.Fatal("the checksum of a record")
		}
		list, file = append(list, data), file[16+length:]
	}
	return list
}

func TestEvents(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 500e6, time.UTC)
	var file bytes.Buffer
	w := NewWriter(&file, at)
	w.Scalar("val_ppl", at, 300, 123.5)
	w.HParams(at, map[string]any{"optimizer.kind": "adam", "optimizer.lr": 0.5, "model.tied": true, "eval.patience": nil, "train.batch": int64(20)})
	w.Ended(at.Add(time.Second), false)
	w.Text("sample", at, 7, "once <b>upon</b> a time")
	if w.Err() != nil {
		t.Fatal(w.Err())
	}
	all := records(t, file.Bytes())
	if len(all) != 5 {
		t.Fatalf("%d records", len(all))
	}
	first := func(m map[uint64][]any, field uint64) any {
		t.Helper()
		if len(m[field]) == 0 {
			t.Fatalf("no field %d in %v", field, m)
		}
		return m[field][0]
	}
	value := func(i int) map[uint64][]any {
		return message(t, first(message(t, first(message(t, all[i]), 5).([]byte)), 1).([]byte))
	}
	head := message(t, all[0])
	if string(first(head, 3).([]byte)) != "brain.Event:2" || math.Float64frombits(first(head, 1).(uint64)) != float64(at.Unix())+0.5 {
		t.Errorf("header %v", head)
	}
	scalar := value(1)
	if string(first(scalar, 1).([]byte)) != "val_ppl" || math.Float32frombits(uint32(first(scalar, 2).(uint64))) != 123.5 ||
		first(message(t, all[1]), 2).(uint64) != 300 {
		t.Errorf("scalar %v", scalar)
	}
	plugin := func(v map[uint64][]any) (string, []byte) {
		data := message(t, first(message(t, first(v, 9).([]byte)), 1).([]byte))
		return string(first(data, 1).([]byte)), first(data, 2).([]byte)
	}
	name, content := plugin(value(2))
	session := message(t, first(message(t, content), 3).([]byte))
	got := map[string]map[uint64][]any{}
	for _, entry := range session[1] {
		pair := message(t, entry.([]byte))
		got[string(first(pair, 1).([]byte))] = message(t, first(pair, 2).([]byte))
	}
	if name != "hparams" || len(got) != 5 || string(first(got["optimizer.kind"], 3).([]byte)) != "adam" ||
		math.Float64frombits(first(got["optimizer.lr"], 2).(uint64)) != 0.5 || first(got["model.tied"], 4).(uint64) != 1 ||
		math.Float64frombits(first(got["train.batch"], 2).(uint64)) != 20 || first(got["eval.patience"], 1).(uint64) != 0 {
		t.Errorf("%s %v", name, got)
	}
	if name, content = plugin(value(3)); name != "hparams" || first(message(t, first(message(t, content), 4).([]byte)), 1).(uint64) != 2 {
		t.Errorf("end: %s % x", name, content)
	}
	text := value(4)
	if name, _ = plugin(text); name != "text" || string(first(text, 1).([]byte)) != "sample/text_summary" ||
		string(first(message(t, first(text, 8).([]byte)), 8).([]byte)) != "once <b>upon</b> a time" {
		t.Errorf("text: %s %v", name, text)
	}
}

type full struct{}

var errFull = errors.New("the disk is full")

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestWriteErrorIsKept(t *testing.T) {
	w := NewWriter(full{}, time.Now())
	w.Scalar("a", time.Now(), 1, 1)
	if !errors.Is(w.Err(), errFull) {
		t.Errorf("got %v", w.Err())
	}
}
