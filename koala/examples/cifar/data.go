package main

import (
	"archive/zip"
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// Images have 32 x 32 pixels in three planes: red, green and blue.
const (
	side   = 32
	plane  = side * side
	pixels = 3 * plane
)

// A dataset is a collection in its authors' files.
type dataset struct {
	name        string
	classes     int
	mean, sd    [3]float64 // of the planes of its train images, from 0 to 255
	folder      string     // in which its archive unpacks
	train, test []string
	read        func(path string) (images, error)
}

// datasets are the known ones. Means and deviations of the first two are the ones of
// KOALA's authors, of ImageNet32 torchvision's of ImageNet.
var datasets = []dataset{
	{
		name: "CIFAR-10", classes: 10, mean: [3]float64{125.3, 123.0, 113.9}, sd: [3]float64{63.0, 62.1, 66.7},
		folder: "cifar-10-batches-bin", train: numbered("data_batch_%d.bin", 5), test: []string{"test_batch.bin"},
		read: func(path string) (images, error) { return readRecords(path, 1) },
	},
	{
		name: "CIFAR-100", classes: 100, mean: [3]float64{129.3, 124.1, 112.4}, sd: [3]float64{68.2, 65.4, 70.4},
		folder: "cifar-100-binary", train: []string{"train.bin"}, test: []string{"test.bin"},
		read: func(path string) (images, error) { return readRecords(path, 2) }, // a coarse label and the fine one
	},
	{
		name: "ImageNet32", classes: 1000, mean: [3]float64{123.675, 116.28, 103.53}, sd: [3]float64{58.395, 57.12, 57.375},
		folder: "Imagenet32_npz", train: numbered("train_data_batch_%d.npz", 10), test: []string{"val_data.npz"},
		read: readArrays,
	},
}

func numbered(pattern string, n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf(pattern, i+1))
	}
	return names
}

// open finds the dataset in a folder and reads its train and test images.
func open(folder string) (d dataset, train, test images, err error) {
	var first []string
	for _, d := range datasets {
		for _, in := range []string{folder, filepath.Join(folder, d.folder)} {
			if _, err := os.Stat(filepath.Join(in, d.train[0])); errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if train, err = d.readAll(in, d.train); err != nil {
				return d, train, test, err
			}
			test, err = d.readAll(in, d.test)
			return d, train, test, err
		}
		first = append(first, d.train[0]+" ("+d.name+")")
	}
	err = fmt.Errorf("%s holds no known dataset: expected a folder with %s", folder, strings.Join(first, ", "))
	if _, statErr := os.Stat(folder); statErr != nil {
		err = statErr
	} else if _, statErr := os.Stat(filepath.Join(folder, "train_data_batch_1")); statErr == nil {
		err = fmt.Errorf("%s holds ImageNet32 as Python pickles: get its npz form, or write each file with numpy.savez(NAME.npz, data=..., labels=...)", folder)
	}
	return d, train, test, err
}

func (d dataset) readAll(folder string, names []string) (all images, err error) {
	for _, name := range names {
		path := filepath.Join(folder, name)
		part, err := d.read(path)
		if err == nil && len(part.labels) == 0 {
			err = errors.New("it has no images")
		}
		for i, label := range part.labels {
			if err == nil && (label < 0 || label >= int64(d.classes)) {
				err = fmt.Errorf("image %d has the label %d: %s has %d classes", i, label, d.name, d.classes)
			}
		}
		if err != nil {
			return images{}, fmt.Errorf("read %s: %w", path, err)
		}
		all.data, all.labels = append(all.data, part.data...), append(all.labels, part.labels...)
	}
	return all, nil
}

// images are labelled images.
type images struct {
	data   []byte // pixels for each
	labels []int64
}

// A batch is normalised images, [N, 3, side, side] numbers, and their labels.
type batch struct {
	values []float32
	labels []int64
	side   int64
}

// batch returns the images at the given places. With a generator each image is padded
// by four black pixels, cropped at a random place, and flipped half of the times.
func (m images) batch(d dataset, at []int, augment *rand.Rand) batch {
	const pad = 4
	b := batch{side: side}
	for _, i := range at {
		data := m.data[i*pixels : (i+1)*pixels]
		b.labels = append(b.labels, m.labels[i])
		down, right, flip := 0, 0, false
		if augment != nil {
			down, right, flip = augment.IntN(2*pad+1)-pad, augment.IntN(2*pad+1)-pad, augment.IntN(2) == 1
		}
		for c := range 3 {
			for y := range side {
				for x := range side {
					fromY, fromX, v := y+down, x+right, 0.0
					if flip {
						fromX = side - 1 - x + right
					}
					if fromY >= 0 && fromY < side && fromX >= 0 && fromX < side {
						v = float64(data[c*plane+fromY*side+fromX])
					}
					b.values = append(b.values, float32((v-d.mean[c])/d.sd[c]))
				}
			}
		}
	}
	return b
}

// readRecords reads a binary file of CIFAR: records of labels, of which the last
// counts, and pixels.
func readRecords(path string, labels int) (m images, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return m, bare(err)
	}
	record := labels + pixels
	if len(data)%record != 0 {
		return m, fmt.Errorf("its %d bytes are not a whole number of records of %d", len(data), record)
	}
	for ; len(data) > 0; data = data[record:] {
		m.labels = append(m.labels, int64(data[labels-1]))
		m.data = append(m.data, data[labels:record]...)
	}
	return m, nil
}

// readArrays reads a file of ImageNet32 in its npz form: the arrays data, uint8 [N,
// 3072], and labels, integers from 1 on.
func readArrays(path string) (m images, err error) {
	file, err := zip.OpenReader(path)
	if err != nil {
		return m, bare(err)
	}
	defer file.Close()
	kind, shape, data, err := readArray(file, "data.npy")
	if err != nil {
		return m, err
	}
	if kind != "|u1" || len(shape) != 2 || shape[1] != pixels {
		return m, fmt.Errorf("data.npy is %s %v: expected |u1 [N %d]", kind, shape, pixels)
	}
	kind, labelled, labels, err := readArray(file, "labels.npy")
	if err != nil {
		return m, err
	}
	if (kind != "<i8" && kind != "<i4") || len(labelled) != 1 || labelled[0] != shape[0] {
		return m, fmt.Errorf("labels.npy is %s %v: expected <i8 or <i4 [%d]", kind, labelled, shape[0])
	}
	m.data, m.labels = data, make([]int64, shape[0])
	for i := range m.labels {
		if kind == "<i8" {
			m.labels[i] = int64(binary.LittleEndian.Uint64(labels[8*i:])) - 1
		} else {
			m.labels[i] = int64(int32(binary.LittleEndian.Uint32(labels[4*i:]))) - 1
		}
	}
	return m, nil
}

// array matches the header of an array that numpy has written in row-major order.
var array = regexp.MustCompile(`^\{'descr': '([<|][iu]([148]))', 'fortran_order': False, 'shape': \(([0-9]+),? ?([0-9]*)\), \}\s*$`)

// readArray reads an array of integers in numpy's format from an npz file.
func readArray(file *zip.ReadCloser, name string) (kind string, shape []int, data []byte, err error) {
	entry, err := file.Open(name)
	if err != nil {
		return "", nil, nil, fmt.Errorf("it has no %s", name)
	}
	defer entry.Close()
	fail := func(err error) (string, []int, []byte, error) { return "", nil, nil, fmt.Errorf("%s: %w", name, err) }
	r := bufio.NewReader(entry)
	var start [10]byte // magic, version, length of the header
	if _, err := io.ReadFull(r, start[:]); err != nil || !bytes.HasPrefix(start[:], []byte("\x93NUMPY\x01\x00")) {
		return fail(errors.New("it is no array in numpy's format 1.0"))
	}
	header := make([]byte, binary.LittleEndian.Uint16(start[8:]))
	if _, err := io.ReadFull(r, header); err != nil {
		return fail(err)
	}
	found := array.FindSubmatch(header)
	if found == nil {
		return fail(fmt.Errorf("its header is %.80q: expected one or two dimensions of integers in row-major order", header))
	}
	size, _ := strconv.Atoi(string(found[2]))
	for _, text := range found[3:] {
		if len(text) == 0 {
			continue
		}
		n, err := strconv.Atoi(string(text))
		if err != nil {
			return fail(err)
		}
		shape = append(shape, n)
		size *= max(n, 0)
	}
	data, err = io.ReadAll(r)
	if err == nil && len(data) != size {
		err = fmt.Errorf("it has %d bytes, and its header says %d", len(data), size)
	}
	if err != nil {
		return fail(err)
	}
	return string(found[1]), shape, data, nil
}

// bare is an error without the path, which the caller adds.
func bare(err error) error {
	if path := (*fs.PathError)(nil); errors.As(err, &path) {
		return path.Err
	}
	return err
}
