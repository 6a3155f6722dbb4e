package data

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
)

// Ignore is the target of a position without a prediction: the loss must skip
// it. Only evaluation batches have such positions.
const Ignore = -1

// A Batch holds B texts side by side, T tokens of each. Targets are the inputs
// shifted by one token. The slices belong to the Batcher, which fills them
// again at every Next.
type Batch struct {
	Inputs, Targets []int64 // row-major: [T, B] if TimeMajor, else [B, T]
	First           []int64 // for each input, the place in its text of the first token of its document; nil without WithinDocuments
	B, T            int
	GlobalBatch     int // texts in the global batch of all ranks; B without Shard
	TimeMajor       bool
	ResetState      bool // the texts start from their beginning: reset the carried state
	Epoch           int  // from 0
	Index           int  // number of the batch in its epoch, from 0
	Predictions     int  // targets that are not Ignore
}

// A Cursor is the position of the batch that Next returns next. It can be
// stored, and passed to Seek of a Batcher made with the same arguments.
type Cursor struct {
	Epoch    int   `json:"epoch"`
	Index    int   `json:"index"`    // batches of the epoch before it
	Position int64 `json:"position"` // tokens of each stream before it, for contiguous batching
}

// A Batcher cuts tokens into batches. Training batchers never end; those for
// evaluation return io.EOF after the last batch. A batch's content depends only
// on the Batcher's arguments and the batch's position, not on earlier reads.
type Batcher interface {
	Next() (Batch, error)
	Cursor() Cursor
	Seek(Cursor) error
	// Steps is the number of batches in the epoch of the cursor.
	Steps() int
}

// Options of batchers.
type batchOptions struct {
	variable  bool
	seed      uint64
	evaluate  bool
	stride    int
	documents bool
	rank      int
	worldSize int
}

// A BatchOption changes how a Batcher cuts.
type BatchOption func(*batchOptions)

// VariableLength makes NewContiguous draw the length of each batch as
// AWD-LSTM does (Merity et al. 2018, section 5): normal around bptt, or
// around half of it in one batch of twenty, with standard deviation 5 and at
// least 5. The learning rate of a step should be scaled by Batch.T / bptt.
// The length depends on seed, epoch and index alone.
func VariableLength(seed uint64) BatchOption {
	return func(o *batchOptions) { o.variable, o.seed = true, seed }
}

// Evaluation makes a Batcher predict every token but the first exactly once and
// then return io.EOF. Unused positions have the target Ignore.
func Evaluation() BatchOption { return func(o *batchOptions) { o.evaluate = true } }

// Stride makes the windows of NewSequential overlap in evaluation: each window
// starts n tokens after the previous one and scores only tokens that the
// previous one did not. So most tokens are predicted from at least context-n
// others.
func Stride(n int) BatchOption { return func(o *batchOptions) { o.stride = n } }

// WithinDocuments makes batches say where the document of each input starts, from the
// tokens' index of documents.
func WithinDocuments() BatchOption { return func(o *batchOptions) { o.documents = true } }

func options(list []BatchOption) (o batchOptions) {
	for _, option := range list {
		option(&o)
	}
	return o
}

// buffers are the slices that a Batcher reuses for every batch.
type buffers struct{ inputs, targets, first, column []int64 }

func (b *buffers) take(n int) (inputs, targets []int64) {
	if cap(b.inputs) < n {
		b.inputs, b.targets = make([]int64, n), make([]int64, n)
	}
	return b.inputs[:n], b.targets[:n]
}

// firsts returns Batch.First for texts of the given length: read returns which tokens each
// text has, n from start on, and place the index of a token of a text.
func (b *buffers) firsts(t *Tokens, texts, length int, read func(text int) (start, n int), place func(text, i int) int) ([]int64, error) {
	if cap(b.first) < texts*length || cap(b.column) < length {
		b.first, b.column = make([]int64, texts*length), make([]int64, length)
	}
	b.first = b.first[:texts*length]
	clear(b.first)
	for text := range texts {
		start, n := read(text)
		if err := t.ReadStarts(b.column[:n], start); err != nil {
			return nil, err
		}
		for i, at := range b.column[:n] {
			b.first[place(text, i)] = max(0, at-int64(start))
		}
	}
	return b.first, nil
}

// derived returns a random source that depends on its arguments alone.
func derived(seed, epoch, index uint64) *rand.Rand {
	var key [32]byte
	copy(key[:8], "batching")
	binary.LittleEndian.PutUint64(key[8:], seed)
	binary.LittleEndian.PutUint64(key[16:], epoch)
	binary.LittleEndian.PutUint64(key[24:], index)
	return rand.New(rand.NewChaCha8(key))
}

// ended is the result of Next after the last batch of an evaluation.
func ended() (Batch, error) { return Batch{}, io.EOF }

var errCursor = errors.New("the cursor does not fit this text and batching: was the dataset, the batch or the length changed?")

func checkShape(what string, t *Tokens, batch int, name string, length int, o batchOptions) error {
	if o.documents && !t.HasDocuments() {
		return fmt.Errorf("%s has no index of documents, which train.document_mask needs: prepare the dataset again, with this version of koala-lm", t.path)
	}
	if batch < 1 {
		return fmt.Errorf("%s batching: batch is %d, want at least 1", what, batch)
	}
	if !o.evaluate && batch < o.worldSize {
		return fmt.Errorf("%s batching: a batch of %d texts cannot be sharded over %d ranks: raise train.batch or start fewer ranks", what, batch, o.worldSize)
	}
	if length < 1 {
		return fmt.Errorf("%s batching: %s is %d, want at least 1", what, name, length)
	}
	return nil
}
