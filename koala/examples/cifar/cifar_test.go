package main

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/koala"
	"github.com/koala-lm/koala-lm/koala/spec"
)

// uniform returns numbers in [-0.5, 0.5) that depend on their stream and place alone;
// testdata/make_reference.py has the same function.
func uniform(stream, count int64) []float64 {
	values := make([]float64, count)
	for i := range values {
		x := uint32(i)*2654435761 + uint32(97531*stream+1)
		x = (x ^ x>>16) * 2246822519
		x = (x ^ x>>13) * 3266489917
		values[i] = float64(x^x>>16)/(1<<32) - 0.5
	}
	return values
}

// hashed returns a filler with make_reference.py's weights.
func hashed() filler {
	stream := int64(-1)
	return func(name string, shape ...int64) []float64 {
		stream++
		count := int64(1)
		for _, size := range shape {
			count *= size
		}
		values := uniform(stream, count)
		for i, u := range values {
			switch {
			case len(shape) == 4:
				values[i] = u * math.Sqrt(24/float64(shape[0]*shape[2]*shape[3]))
			case len(shape) == 2:
				values[i] = u * (2 / math.Sqrt(float64(shape[1])))
			case strings.HasSuffix(name, ".weight"):
				values[i] = 1 + 0.2*u
			default:
				values[i] = 0.2 * u
			}
		}
		return values
	}
}

// TestReference compares ten steps of ResNet-18 with the published algorithm in PyTorch
// (testdata/make_reference.py), in float64 and float32.
func TestReference(t *testing.T) {
	text, err := os.ReadFile("testdata/reference.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Factors              []float64
		Batch, Side, Classes int64
		Cases                []struct {
			Kind, DType string
			Loss        []float64
			MeanSquare  []float64 `json:"mean_square"`
			Evaluated   float64
			Params      map[string][2]float64 // norm and first element
			Buffers     []float64             // norms
		}
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Cases) != 8 || len(file.Cases[0].Loss) != 10 || len(file.Factors) != 10 {
		t.Fatalf("%d cases of %d steps", len(file.Cases), len(file.Factors))
	}
	given := func(k int64) batch {
		b := batch{side: file.Side}
		for _, u := range uniform(1000+k, file.Batch*3*file.Side*file.Side) {
			b.values = append(b.values, float32(4*u))
		}
		for _, u := range uniform(2000+k, file.Batch) {
			b.labels = append(b.labels, int64((u+0.5)*float64(file.Classes)))
		}
		return b
	}
	for _, c := range file.Cases {
		t.Run(c.Kind+" "+c.DType, func(t *testing.T) {
			// These steps are long and multiply rounding, so that float32 is compared for
			// three steps only.
			dtype, tolerance := gotch.Double, 1e-6
			if c.DType == "float32" {
				dtype, tolerance = gotch.Float, 5e-3
			}
			near := func(what string, got, want float64) {
				t.Helper()
				if !(math.Abs(got-want) <= tolerance*max(1, math.Abs(want))) {
					t.Errorf("%s is %v, recorded %v: off by %.2g", what, got, want, math.Abs(got-want))
				}
			}
			net, err := newResNet(64, file.Classes, dtype, gotch.CPU, hashed())
			if err != nil {
				t.Fatal(err)
			}
			defer net.free()
			kind, err := spec.Lookup(c.Kind)
			if err != nil {
				t.Fatal(err)
			}
			values := map[string]any{}
			for key, v := range authors[kind] {
				values[key] = v
			}
			if kind == spec.KoalaM {
				values["float32_scalars"] = true
			}
			opt, err := koala.New(kind, values, []koala.Group{{Params: net.params, WeightDecay: 5e-4}})
			if err != nil {
				t.Fatal(err)
			}
			defer opt.Close()
			for k, factor := range file.Factors[:len(c.Loss)] {
				m, info, err := net.step(opt, given(int64(k)), factor)
				if err != nil || info.NonFinite {
					t.Fatalf("step %d: %+v, %v", k+1, info, err)
				}
				near(fmt.Sprintf("step %d: the loss", k+1), m.Loss, c.Loss[k])
				near(fmt.Sprintf("step %d: the mean square", k+1), m.MeanSquare, c.MeanSquare[k])
			}
			err = torch.Do(func(s *torch.Scope) error {
				s.NoGrad(func() {
					x, y := net.toDevice(s, given(0))
					near("the loss in evaluation", s.Item(s.Mean(s.CrossEntropies(net.forward(s, x, false), y))), c.Evaluated)
					if len(c.Params) != len(net.params) || len(c.Buffers) != len(net.buffers) {
						t.Fatalf("%d parameters and %d buffers", len(net.params), len(net.buffers))
					}
					for _, p := range net.params {
						flat := torch.ToSlice[float64](s, p.Tensor)
						near(p.Name+"'s norm", norm(flat), c.Params[p.Name][0])
						near(p.Name+"[0]", flat[0], c.Params[p.Name][1])
					}
					for i, b := range net.buffers {
						near(fmt.Sprintf("buffer %d's norm", i), norm(torch.ToSlice[float64](s, b)), c.Buffers[i])
					}
				})
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

func norm(values []float64) float64 {
	square := 0.0
	for _, v := range values {
		square += v * v
	}
	return math.Sqrt(square)
}

// generated returns n images of two classes that a small network can tell apart: the
// upper or the lower half is brighter.
func generated(n int, seed uint64) images {
	r := rand.New(rand.NewPCG(seed, 0))
	var m images
	for range n {
		label := r.IntN(2)
		m.labels = append(m.labels, int64(label))
		for i := range pixels {
			v := 60 + r.IntN(80)
			if i%plane/(plane/2) == label {
				v += 60
			}
			m.data = append(m.data, byte(v))
		}
	}
	return m
}

// write writes images in the dataset's files.
func write(t *testing.T, d dataset, folder string, names []string, m images) {
	t.Helper()
	each := len(m.labels) / len(names)
	for i, name := range names {
		data, labels := m.data[i*each*pixels:(i+1)*each*pixels], m.labels[i*each:(i+1)*each]
		var content []byte
		if strings.HasSuffix(name, ".npz") {
			content = arrays(t, data, labels)
		} else {
			for j, label := range labels {
				if d.classes == 100 {
					content = append(content, 19) // the coarse label
				}
				content = append(append(content, byte(label)), data[j*pixels:(j+1)*pixels]...)
			}
		}
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// arrays are ImageNet32's, as numpy writes them; labels count from 1.
func arrays(t *testing.T, data []byte, labels []int64) []byte {
	t.Helper()
	var numbers []byte
	for _, label := range labels {
		numbers = binary.LittleEndian.AppendUint64(numbers, uint64(label+1))
	}
	return npz(t, map[string]string{
		"data.npy":   npy("|u1", fmt.Sprintf("(%d, %d)", len(labels), pixels), data),
		"labels.npy": npy("<i8", fmt.Sprintf("(%d,)", len(labels)), numbers),
	})
}

func npy(kind, shape string, data []byte) string {
	head := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': %s, }", kind, shape)
	head = fmt.Sprintf("%-117s\n", head)
	return "\x93NUMPY\x01\x00" + string(binary.LittleEndian.AppendUint16(nil, uint16(len(head)))) + head + string(data)
}

func npz(t *testing.T, arrays map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for name, content := range arrays {
		entry, err := w.Create(name)
		if err == nil {
			_, err = io.WriteString(entry, content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func small(folder, optim string) options {
	return options{
		data: folder, optim: optim, device: "cpu", weightDecay: 5e-4, gamma: 0.2,
		epochs: 3, batch: 20, width: 4, seed: 1, printed: 1000,
	}
}

// TestTrain trains on generated images in the files of each dataset: the loss falls.
func TestTrain(t *testing.T) {
	for i, optim := range []string{"koala-v", "koala-m", "adam"} {
		d := datasets[i]
		t.Run(d.name, func(t *testing.T) {
			o := small(t.TempDir(), optim)
			if optim == "adam" {
				o.lr = 0.01 // in 30 steps; the default is for 39,000
			}
			write(t, d, o.data, d.train, generated(200, 1))
			write(t, d, o.data, d.test, generated(40, 2))
			var out strings.Builder
			if err := train(o, &out); err != nil {
				t.Fatal(err)
			}
			var losses []float64
			for line := range strings.Lines(out.String()) {
				var epoch, epochs int
				var loss, test, first, five float64
				if _, err := fmt.Sscanf(line, "epoch %d of %d: train loss %f, test loss %f, error %f%% (top 5: %f%%)", &epoch, &epochs, &loss, &test, &first, &five); err == nil {
					losses = append(losses, loss)
				}
			}
			if !strings.HasPrefix(out.String(), d.name+": 200 train and 40 test images") || len(losses) != 3 || !(losses[2] < 0.8*losses[0]) {
				t.Errorf("it said:\n%s", out.String())
			}
		})
	}
}

// TestReaders: every dataset's files give back the images that were written.
func TestReaders(t *testing.T) {
	for _, d := range datasets {
		folder := t.TempDir()
		if err := os.Mkdir(filepath.Join(folder, d.folder), 0o755); err != nil {
			t.Fatal(err)
		}
		train, test := generated(20, 3), generated(4, 4)
		write(t, d, filepath.Join(folder, d.folder), d.train, train)
		write(t, d, filepath.Join(folder, d.folder), d.test, test)
		found, gotTrain, gotTest, err := open(folder)
		if err != nil || found.name != d.name {
			t.Fatalf("%s: found %q, %v", d.name, found.name, err)
		}
		if !cmp.Equal(gotTrain, train, cmp.AllowUnexported(images{})) || !cmp.Equal(gotTest, test, cmp.AllowUnexported(images{})) {
			t.Errorf("%s: other images were read than written", d.name)
		}
	}
}

// TestAugmentation: a crop is a window of the padded image, at each of 81 places and in
// both directions.
func TestAugmentation(t *testing.T) {
	d := datasets[0]
	m := generated(1, 5)
	for i := range m.data {
		m.data[i] = byte(1 + i%251)
	}
	plain := m.batch(d, []int{0}, nil).values
	for c := range 3 {
		want := (float64(m.data[c*plane+33]) - d.mean[c]) / d.sd[c]
		if got := float64(plain[c*plane+33]); math.Abs(got-want) > 1e-6 {
			t.Errorf("plane %d: %v, want %v", c, got, want)
		}
	}
	seen := map[[3]int]int{}
	r := rand.New(rand.NewPCG(6, 0))
	for range 3000 {
		values := m.batch(d, []int{0}, r).values
		seen[placeOf(t, d, m.data, values)]++
	}
	if len(seen) != 81*2 {
		t.Errorf("%d windows were drawn, want 162", len(seen))
	}
}

// placeOf finds the window from which values come, by comparison with all of them.
func placeOf(t *testing.T, d dataset, data []byte, values []float32) [3]int {
	t.Helper()
	for down := range 9 {
		for right := range 9 {
			for flip := range 2 {
				same := true
				for i := 0; same && i < pixels; i += 37 {
					c, y, x := i/plane, i%plane/side, i%side
					if flip == 1 {
						x = side - 1 - x
					}
					y, x = y+down-4, x+right-4
					v := 0.0
					if min(y, x) >= 0 && max(y, x) < side {
						v = float64(data[c*plane+y*side+x])
					}
					same = values[i] == float32((v-d.mean[c])/d.sd[c])
				}
				if same {
					return [3]int{down, right, flip}
				}
			}
		}
	}
	t.Fatal("an image is no window of the padded one")
	return [3]int{}
}

// TestSchedule compares the learning rate's factors with the authors' milestones.
func TestSchedule(t *testing.T) {
	for _, c := range []struct {
		epochs, warmup int
		d              dataset
		at             []int // epochs
		want           []float64
	}{
		{100, 0, datasets[0], []int{0, 29, 30, 59, 60, 89, 90, 99}, []float64{1, 1, 0.2, 0.2, 0.04, 0.04, 0.008, 0.008}},
		{200, 0, datasets[0], []int{149, 150}, []float64{1, 0.2}},
		{200, 0, datasets[1], []int{59, 60, 120, 160}, []float64{1, 0.2, 0.04, 0.008}},
		{100, 4, datasets[1], []int{0, 1, 3, 4}, []float64{0, 0.25, 0.75, 1}},
	} {
		o := options{epochs: c.epochs, warmup: c.warmup, gamma: 0.2}
		for i, epoch := range c.at {
			if got := o.factor(c.d, epoch, 0, 390); math.Abs(got-c.want[i]) > 1e-12 {
				t.Errorf("%s, %d epochs: %v in epoch %d, want %v", c.d.name, c.epochs, got, epoch, c.want[i])
			}
		}
	}
}

// TestRefuses: bad input is an error of one line that names the file or flag.
func TestRefuses(t *testing.T) {
	good := func(t *testing.T, d dataset) string {
		folder := t.TempDir()
		write(t, d, folder, d.train, generated(20, 7))
		write(t, d, folder, d.test, generated(4, 8))
		return folder
	}
	replace := func(name, content string) func(folder string) error {
		return func(folder string) error { return os.WriteFile(filepath.Join(folder, name), []byte(content), 0o644) }
	}
	for want, c := range map[string]struct {
		dataset int
		damage  func(folder string) error
		change  func(o *options)
	}{
		"data_batch_2.bin: its 7 bytes are not a whole number of records of 3073": {0, replace("data_batch_2.bin", "1234567"), nil},
		"data_batch_3.bin: it has no images":                                      {0, replace("data_batch_3.bin", ""), nil},
		"test_batch.bin: image 0 has the label 99: CIFAR-10 has 10 classes":       {0, replace("test_batch.bin", "c"+strings.Repeat("x", pixels)), nil},
		"test.bin: no such file":                                                  {1, func(folder string) error { return os.Remove(filepath.Join(folder, "test.bin")) }, nil},
		"holds no known dataset: expected a folder with data_batch_1.bin":         {1, func(folder string) error { return os.Remove(filepath.Join(folder, "train.bin")) }, nil},
		"val_data.npz: zip: not a valid zip file":                                 {2, replace("val_data.npz", "no"), nil},
		"val_data.npz: data.npy is <i8 [1]: expected |u1 [N 3072]":                {2, replace("val_data.npz", string(npz(t, map[string]string{"data.npy": npy("<i8", "(1,)", make([]byte, 8))}))), nil},
		"no/such: no such file":                                                   {0, nil, func(o *options) { o.data = "no/such" }},
		"--batch 21: CIFAR-10 has 20 train images here":                           {0, nil, func(o *options) { o.batch = 21 }},
		"--optim: optimizer \"koala\": expected one of koala-v":                   {0, nil, func(o *options) { o.optim = "koala" }},
		"must be above 0":             {0, nil, func(o *options) { o.width = 0 }},
		"optimizer koala-v: lr is -1": {0, nil, func(o *options) { o.lr = -1 }},
		"epoch 1, step 2: the loss or a gradient is not finite; lower --lr": {0, nil, func(o *options) { o.optim, o.lr, o.batch = "sgd", 1e30, 10 }},
	} {
		t.Run(want, func(t *testing.T) {
			folder := good(t, datasets[c.dataset])
			if c.damage != nil {
				if err := c.damage(folder); err != nil {
					t.Fatal(err)
				}
			}
			o := small(folder, "koala-v")
			o.epochs = 1
			if c.change != nil {
				c.change(&o)
			}
			err := train(o, io.Discard)
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want %q", err, want)
			}
		})
	}
}
