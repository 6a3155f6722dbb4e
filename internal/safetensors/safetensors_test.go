package safetensors

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// encode returns the little-endian bytes of values.
func encode(t testing.TB, values any) []byte {
	t.Helper()
	b, err := binary.Append(nil, binary.LittleEndian, values)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sample is the content of testdata/python.safetensors: 0 to 5 in every type
// that NumPy has, a scalar, an empty tensor, and a name that needs escapes.
func sample(t testing.TB) (map[string]string, []Info, map[string][]byte) {
	matrix := []int64{2, 3}
	infos := []Info{
		{"a.uint64", U64, matrix}, {"a.int64", I64, matrix}, {"a.float64", F64, matrix}, {"scalar", F64, []int64{}},
		{"a.float32", F32, matrix}, {"empty", F32, []int64{0, 4}}, {"a.uint32", U32, matrix}, {"a.int32", I32, matrix},
		{"a.float16", F16, matrix}, {"a.uint16", U16, matrix}, {"a.int16", I16, matrix},
		{"a.int8", I8, matrix}, {"a.uint8", U8, matrix}, {"odd \"näme\"\n<&>", U8, []int64{3}}, {"a.bool", Bool, matrix},
	}
	return map[string]string{"format": "np"}, infos, map[string][]byte{
		"a.uint64":          encode(t, []uint64{0, 1, 2, 3, 4, 5}),
		"a.int64":           encode(t, []int64{0, 1, 2, 3, 4, 5}),
		"a.float64":         encode(t, []float64{0, 1, 2, 3, 4, 5}),
		"scalar":            encode(t, 0.1),
		"a.float32":         encode(t, []float32{0, 1, 2, 3, 4, 5}),
		"empty":             {},
		"a.uint32":          encode(t, []uint32{0, 1, 2, 3, 4, 5}),
		"a.int32":           encode(t, []int32{0, 1, 2, 3, 4, 5}),
		"a.float16":         encode(t, []uint16{0, 0x3c00, 0x4000, 0x4200, 0x4400, 0x4500}),
		"a.uint16":          encode(t, []uint16{0, 1, 2, 3, 4, 5}),
		"a.int16":           encode(t, []int16{0, 1, 2, 3, 4, 5}),
		"a.int8":            {0, 1, 2, 3, 4, 5},
		"a.uint8":           {0, 1, 2, 3, 4, 5},
		"odd \"näme\"\n<&>": {1, 2, 3},
		"a.bool":            {0, 1, 0, 1, 0, 1},
	}
}

func tensors(infos []Info, data map[string][]byte) []Tensor {
	var list []Tensor
	for _, info := range infos {
		list = append(list, Tensor{info, bytes.NewReader(data[info.Name])})
	}
	return list
}

func TestReadsPython(t *testing.T) {
	metadata, infos, data := sample(t)
	r, err := Open(filepath.Join("testdata", "python.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if diff := cmp.Diff(metadata, r.Metadata()); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(infos, r.Tensors()); diff != "" {
		t.Errorf("tensors (-want +got):\n%s", diff)
	}
	for _, info := range infos {
		got := make([]byte, len(data[info.Name]))
		if err := r.Read(info.Name, got); err != nil || !bytes.Equal(got, data[info.Name]) {
			t.Errorf("%v: % x, %v; want % x", info, got, err, data[info.Name])
		}
		if found, ok := r.Lookup(info.Name); !ok || !cmp.Equal(found, info) {
			t.Errorf("Lookup(%q) = %v, %v", info.Name, found, ok)
		}
	}
	if err := r.Read("nowhere", nil); err == nil {
		t.Error("a tensor that is not there was read")
	}
	if err := r.Read("scalar", make([]byte, 7)); err == nil {
		t.Error("a tensor was read into too few bytes")
	}
}

// The bytes equal Python's, in whatever order the tensors are passed.
func TestWritesWhatPythonWrites(t *testing.T) {
	want, err := os.ReadFile(filepath.Join("testdata", "python.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	metadata, infos, data := sample(t)
	for range 2 {
		var got bytes.Buffer
		if err := Write(&got, metadata, tensors(infos, data)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("got\n%q\nwant\n%q", got.Bytes(), want)
		}
		slices.Reverse(infos)
	}
}

func TestSmallestFile(t *testing.T) {
	var b bytes.Buffer
	if err := Write(&b, nil, nil); err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil || len(r.Tensors()) != 0 || r.Metadata() != nil {
		t.Errorf("%v, %v", r, err)
	}
}

func TestCutAnywhere(t *testing.T) {
	whole, err := os.ReadFile(filepath.Join("testdata", "python.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	var format *FormatError
	for n := range whole {
		if _, err := NewReader(bytes.NewReader(whole[:n]), int64(n)); !errors.As(err, &format) {
			t.Errorf("the first %d bytes: %v", n, err)
		}
	}
	longer := append(slices.Clone(whole), 0)
	if _, err := NewReader(bytes.NewReader(longer), int64(len(longer))); !errors.As(err, &format) {
		t.Errorf("a byte more: %v", err)
	}
}

// A file that is cut off after it was opened gives an error where its data ends.
func TestCutWhileOpen(t *testing.T) {
	name := filepath.Join(t.TempDir(), "cut.safetensors")
	whole, err := os.ReadFile(filepath.Join("testdata", "python.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, whole, 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := os.Truncate(name, int64(len(whole)-1)); err != nil {
		t.Fatal(err)
	}
	if err := r.Read("a.bool", make([]byte, 6)); err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("got %v", err)
	}
}

// file puts a header before n bytes of data.
func file(header string, n int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, n)...)
}

func TestRefuses(t *testing.T) {
	const f32 = `"dtype":"F32","shape":[2],"data_offsets":[0,8]`
	for _, test := range []struct {
		file []byte
		want string
	}{
		{nil, "too few"},
		{binary.LittleEndian.AppendUint64(nil, MaxHeader+1), "more than 100000000"},
		{binary.LittleEndian.AppendUint64(nil, math.MaxUint64), "more than 100000000"},
		{binary.LittleEndian.AppendUint64(nil, 3), "cut off"},
		{file("", 0), "does not start with {"},
		{file(" {}", 0), "does not start with {"},
		{file("[]", 0), "does not start with {"},
		{file("{\xff}", 0), "not UTF-8"},
		{file("{", 0), "not JSON"},
		{file("{}{}", 0), "follows"},
		{file(`{} x`, 0), "follows"},
		{file(`{"a":1}`, 0), "where { should be"},
		{file(`{"a":null}`, 0), "where { should be"},
		{file(`{"a":{"dtype":"F32","shape":[2]}}`, 8), "no data_offsets"},
		{file(`{"a":{"shape":[2],"data_offsets":[0,8]}}`, 8), "no dtype"},
		{file(`{"a":{"dtype":"F32","data_offsets":[0,8]}}`, 8), "no shape"},
		{file(`{"a":{"DTYPE":"F32","shape":[2],"data_offsets":[0,8]}}`, 8), "no dtype"},
		{file(`{"a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}}`, 8), `"F31" is not known`},
		{file(`{"a":{"dtype":4,"shape":[2],"data_offsets":[0,8]}}`, 8), "not a string"},
		{file(`{"a":{"dtype":"F32","shape":2,"data_offsets":[0,8]}}`, 8), "where [ should be"},
		{file(`{"a":{"dtype":"F32","shape":["2"],"data_offsets":[0,8]}}`, 8), "not a number"},
		{file(`{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}`, 8), "whole number"},
		{file(`{"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}}`, 8), "whole number"},
		{file(`{"a":{"dtype":"F32","shape":[2e0],"data_offsets":[0,8]}}`, 8), "whole number"},
		{file(`{"a":{"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,8]}}`, 8), "whole number"},
		{file(`{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}`, 8), "overflows"},
		{file(`{"a":{"dtype":"F64","shape":[1152921504606846976],"data_offsets":[0,8]}}`, 8), "overflows"},
		{file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}}`, 8), "1 numbers where 2"},
		{file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}`, 8), "should start at 0"},
		{file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}`, 4), "make 8"},
		{file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}`, 12), "should start at 0"},
		{file(`{"a":{`+f32+`,"shape":[2]}}`, 8), "twice"},
		{file(`{"a":{`+f32+`},"a":{`+f32+`}}`, 8), "twice"},
		{file(`{"a":{`+f32+`},"\u0061":{`+f32+`}}`, 8), "twice"},
		{file(`{"a":{`+f32+`},"b":{`+f32+`}}`, 8), "should start at 8"},
		{file(`{"a":{`+f32+`},"b":{"dtype":"F32","shape":[2],"data_offsets":[9,17]}}`, 17), "should start at 8"},
		{file(`{"a":{`+f32+`}}`, 7), "cut off"},
		{file(`{"a":{`+f32+`}}`, 9), "follows"},
		{file(`{"__metadata__":{"a":1}}`, 0), "not a string"},
		{file(`{"__metadata__":{"a":"1","a":"2"}}`, 0), "twice"},
		{file(`{"__metadata__":{},"__metadata__":{}}`, 0), "twice"},
		{file(`{"__metadata__":"x"}`, 0), "where { should be"},
		{file(`{"a":{`+f32+`,"more":`+strings.Repeat("[", 20_000)+`}}`, 8), "not JSON"},
	} {
		_, err := NewReader(bytes.NewReader(test.file), int64(len(test.file)))
		var format *FormatError
		if !errors.As(err, &format) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%.100q: %v, want %q", test.file, err, test.want)
		}
	}
}

func TestAccepts(t *testing.T) {
	for _, content := range [][]byte{
		file(`{}`, 0),
		file("{ } \n\t ", 0),
		file(`{"__metadata__":{}}`, 0),
		file(`{"b":{"data_offsets":[0,0],"dtype":"F32","shape":[0]},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}`, 4),
		file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"more":{"x":[1,null]}}}`, 8),
		file(`{"a":{"dtype":"F32","shape":[0,9223372036854775807],"data_offsets":[0,0]}}`, 0),
	} {
		if _, err := NewReader(bytes.NewReader(content), int64(len(content))); err != nil {
			t.Errorf("%q: %v", content, err)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	two := Info{"a", U8, []int64{2}}
	for _, test := range []struct {
		metadata map[string]string
		tensors  []Tensor
		want     string
	}{
		{nil, tensors([]Info{two}, map[string][]byte{"a": {1}}), "1 bytes of data"},
		{nil, tensors([]Info{two}, map[string][]byte{"a": {1, 2, 3}}), "3 bytes of data"},
		{nil, tensors([]Info{two, two}, map[string][]byte{"a": {1, 2}}), "two tensors"},
		{nil, tensors([]Info{{"__metadata__", U8, nil}}, nil), "cannot be named"},
		{nil, tensors([]Info{{"\xff", U8, nil}}, nil), "cannot be named"},
		{nil, tensors([]Info{{"a", "F31", nil}}, nil), "not known"},
		{nil, tensors([]Info{{"a", U8, []int64{-1}}}, nil), "negative"},
		{nil, tensors([]Info{{"a", U8, []int64{1 << 62}}, {"b", U8, []int64{1 << 62}}}, nil), "together"},
		{map[string]string{"a": "\xff"}, nil, "not UTF-8"},
		{map[string]string{"a": strings.Repeat("x", MaxHeader)}, nil, "more than"},
	} {
		if err := Write(io.Discard, test.metadata, test.tensors); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("got %v, want %q", err, test.want)
		}
	}
}

func TestOpenNamesTheFile(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{folder, filepath.Join(folder, "absent")} {
		if _, err := Open(name); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Every file that NewReader accepts can be read and written again.
func FuzzReader(f *testing.F) {
	whole, err := os.ReadFile(filepath.Join("testdata", "python.safetensors"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(file(`{"__metadata__":{"a":"b"},"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}`, 4))
	f.Add(file("{}", 0))
	f.Fuzz(func(t *testing.T, content []byte) {
		r, err := NewReader(bytes.NewReader(content), int64(len(content)))
		if err != nil {
			return
		}
		data := map[string][]byte{}
		for _, info := range r.Tensors() {
			n, err := info.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			data[info.Name] = make([]byte, n)
			if err := r.Read(info.Name, data[info.Name]); err != nil {
				t.Fatal(err)
			}
		}
		var b bytes.Buffer
		var format *FormatError
		if err := Write(&b, r.Metadata(), tensors(r.Tensors(), data)); errors.As(err, &format) {
			return // a tensor's name that only other writers use
		} else if err != nil {
			t.Fatal(err)
		}
		again, err := NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
		if err != nil {
			t.Fatal(err)
		}
		if len(again.Tensors()) != len(data) {
			t.Fatalf("%d tensors became %d", len(data), len(again.Tensors()))
		}
		for name, want := range data {
			got := make([]byte, len(want))
			if err := again.Read(name, got); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%q: %v", name, err)
			}
		}
	})
}
