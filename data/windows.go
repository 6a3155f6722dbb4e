package data

import "fmt"

// windows cuts a text into independent windows of `context` predictions. Random
// and sequential batching differ only in where the windows start.
type windows struct {
	tokens  *Tokens
	batch   int
	first   int // first row of this rank
	last    int // end of this rank's rows (exclusive)
	context int
	opts    batchOptions
	steps   int // batches in an epoch
	at      Cursor
	buf     buffers
	// place returns the first token of the window in a row of a batch, and the
	// range [from, to) of its predictions that are scored.
	place func(at Cursor, row int) (start, from, to int)
}

// NewRandom makes batches [B, T] of windows that start anywhere, as nanoGPT
// does. An epoch has about as many predictions as the text has tokens. The
// starts of a batch's windows depend only on seed and on the number of batches
// before it.
func NewRandom(t *Tokens, batch, context int, seed uint64, list ...BatchOption) (Batcher, error) {
	opts := options(list)
	if err := checkShape("random", t, batch, "context", context, opts); err != nil {
		return nil, err
	}
	if t.Len() < context+1 {
		return nil, fmt.Errorf("the text has %d tokens, too few for a context of %d: it needs at least %d; use a smaller context or more text", t.Len(), context, context+1)
	}
	w := &windows{tokens: t, batch: batch, context: context, opts: opts, steps: ceil(t.Len()-1, batch*context)}
	w.first, w.last = opts.shard(batch)
	starts := make([]int, batch)
	drawn := Cursor{Epoch: -1}
	w.place = func(at Cursor, row int) (int, int, int) {
		if at != drawn { // one source of randomness for all rows
			r := derived(seed, 0, uint64(at.Epoch)*uint64(w.steps)+uint64(at.Index))
			for i := range starts {
				starts[i] = r.IntN(t.Len() - context)
			}
			drawn = at
		}
		return starts[row], 0, context
	}
	return w, nil
}

// NewSequential makes batches [B, T] of windows one after another in the order
// of the text. In training the rest of the text that does not fill a batch is
// left out. With Evaluation it is kept, and the unused positions of its batch
// have the target Ignore.
func NewSequential(t *Tokens, batch, context int, list ...BatchOption) (Batcher, error) {
	opts := options(list)
	if err := checkShape("sequential", t, batch, "context", context, opts); err != nil {
		return nil, err
	}
	predictions := t.Len() - 1
	w := &windows{tokens: t, batch: batch, context: context, opts: opts}
	w.first, w.last = opts.shard(batch)
	if !opts.evaluate {
		w.steps = predictions / (batch * context)
		if w.steps < 1 {
			return nil, fmt.Errorf("the text has %d tokens, too few for a batch of %d windows of %d: it needs at least %d; use a smaller batch or context or more text", t.Len(), batch, context, batch*context+1)
		}
		w.place = func(at Cursor, row int) (int, int, int) {
			return (at.Index*batch + row) * context, 0, context
		}
		return w, nil
	}
	if predictions < 1 {
		return nil, fmt.Errorf("a text of %d tokens has nothing to predict", t.Len())
	}
	stride := opts.stride
	if stride == 0 {
		stride = context
	}
	if stride < 1 || stride > context {
		return nil, fmt.Errorf("sequential batching: stride is %d, want 1 to the context of %d", stride, context)
	}
	count := 1 + ceil(max(0, predictions-context), stride)
	w.steps = ceil(count, batch)
	w.place = func(at Cursor, row int) (start, from, to int) {
		i := at.Index*batch + row
		if i >= count {
			return 0, 0, 0
		}
		start = i * stride
		if i > 0 {
			from = context - stride // the previous window scored the tokens before from
		}
		return start, from, min(context, predictions-start)
	}
	return w, nil
}

func ceil(a, b int) int { return (a + b - 1) / b }

func (w *windows) Next() (Batch, error) {
	if w.at.Index >= w.steps || w.first == w.last {
		return ended()
	}
	rows := w.last - w.first
	inputs, targets := w.buf.take(rows * w.context)
	b := Batch{
		Inputs: inputs, Targets: targets, B: rows, GlobalBatch: w.batch, T: w.context,
		ResetState: true, Epoch: w.at.Epoch, Index: w.at.Index,
	}
	for row := range rows {
		start, from, to := w.place(w.at, w.first+row)
		in, out := inputs[row*w.context:][:w.context], targets[row*w.context:][:w.context]
		if err := w.tokens.Read(in[:to], start); err != nil {
			return Batch{}, err
		}
		if to > from {
			if err := w.tokens.Read(out[from:to], start+from+1); err != nil {
				return Batch{}, err
			}
		}
		clear(in[to:])
		fill(out[:from], Ignore)
		fill(out[max(from, to):], Ignore)
		b.Predictions += max(0, to-from)
	}
	if w.opts.documents {
		var err error
		b.First, err = w.buf.firsts(w.tokens, rows, w.context, func(row int) (start, n int) {
			start, _, n = w.place(w.at, w.first+row)
			return start, n
		}, func(row, i int) int { return row*w.context + i })
		if err != nil {
			return Batch{}, err
		}
	}
	if w.at.Index++; w.at.Index == w.steps && !w.opts.evaluate {
		w.at = Cursor{Epoch: w.at.Epoch + 1}
	}
	return b, nil
}

func fill(s []int64, value int64) {
	for i := range s {
		s[i] = value
	}
}

func (w *windows) Cursor() Cursor { return w.at }

func (w *windows) Seek(to Cursor) error {
	last := w.steps - 1
	if w.opts.evaluate {
		last = w.steps
	}
	if to.Epoch < 0 || to.Index < 0 || to.Index > last || to.Position != 0 || w.opts.evaluate && to.Epoch != 0 {
		return errCursor
	}
	w.at = to
	return nil
}

func (w *windows) Steps() int { return w.steps }
