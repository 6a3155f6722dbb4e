package data

import "fmt"

// contiguous cuts a text into `batch` columns of consecutive tokens and walks
// down all of them at once, so that the state after one batch is the state
// before the next.
type contiguous struct {
	tokens *Tokens
	batch  int
	from   int // first column of this rank
	to     int // end of this rank's columns (exclusive)
	bptt   int
	opts   batchOptions
	rows   int // predictions in a column
	long   int // columns that have one prediction more (evaluation)
	steps  int // batches in the current epoch; 0 until it is counted
	at     Cursor
	buf    buffers
}

// NewContiguous makes batches [T, B], time major, with carried state. In
// training the text is trimmed to `batch` columns of equal length, as
// word_language_model does; with Evaluation nothing is trimmed, and some
// columns are one prediction longer than others.
func NewContiguous(t *Tokens, batch, bptt int, list ...BatchOption) (Batcher, error) {
	opts := options(list)
	if err := checkShape("contiguous", t, batch, "bptt", bptt, opts); err != nil {
		return nil, err
	}
	c := &contiguous{tokens: t, batch: batch, bptt: bptt, opts: opts}
	c.from, c.to = opts.shard(batch)
	if c.opts.evaluate {
		c.rows, c.long = (t.Len()-1)/batch, (t.Len()-1)%batch
		if t.Len() < 2 {
			return nil, fmt.Errorf("a text of %d tokens has nothing to predict", t.Len())
		}
		return c, nil
	}
	c.rows = t.Len()/batch - 1
	if c.rows < 1 {
		return nil, fmt.Errorf("the text has %d tokens, too few for a batch of %d: it needs at least %d; use a smaller batch or more text", t.Len(), batch, 2*batch)
	}
	return c, nil
}

// column returns where column b starts and how many predictions it has.
func (c *contiguous) column(b int) (start, predictions int) {
	if !c.opts.evaluate {
		return b * (c.rows + 1), c.rows
	}
	start = b*c.rows + min(b, c.long)
	if b < c.long {
		return start, c.rows + 1
	}
	return start, c.rows
}

// height is the number of predictions in the longest column.
func (c *contiguous) height() int {
	if c.long > 0 {
		return c.rows + 1
	}
	return c.rows
}

// length is the number of rows of the batch at this cursor.
func (c *contiguous) length(at Cursor) int {
	n := c.bptt
	if c.opts.variable {
		r := derived(c.opts.seed, uint64(at.Epoch), uint64(at.Index))
		mean := float64(c.bptt)
		if r.Float64() >= 0.95 {
			mean /= 2
		}
		// AWD-LSTM has no upper bound. Three deviations above bptt exclude one
		// draw in a thousand and bound the buffers.
		n = min(max(5, int(mean+5*r.NormFloat64())), c.bptt+15)
	}
	return min(n, c.height()-int(at.Position))
}

// advance moves a cursor over one batch.
func (c *contiguous) advance(at Cursor) Cursor {
	at.Position += int64(c.length(at))
	at.Index++
	if int(at.Position) >= c.height() && !c.opts.evaluate {
		return Cursor{Epoch: at.Epoch + 1}
	}
	return at
}

func (c *contiguous) Next() (Batch, error) {
	if int(c.at.Position) >= c.height() || c.from == c.to {
		return ended()
	}
	length, width := c.length(c.at), c.to-c.from
	inputs, targets := c.buf.take(length * width)
	b := Batch{
		Inputs: inputs, Targets: targets, B: width, GlobalBatch: c.batch, T: length, TimeMajor: true,
		ResetState: c.at.Index == 0, Epoch: c.at.Epoch, Index: c.at.Index,
	}
	from := int(c.at.Position)
	for col := range width {
		start, predictions := c.column(c.from + col)
		n := min(length, max(0, predictions-from))
		if err := c.tokens.readStrided(inputs[col:], width, n, start+from); err != nil {
			return Batch{}, err
		}
		if err := c.tokens.readStrided(targets[col:], width, n, start+from+1); err != nil {
			return Batch{}, err
		}
		for i := n; i < length; i++ {
			inputs[i*width+col], targets[i*width+col] = 0, Ignore
		}
		b.Predictions += n
	}
	if c.opts.documents {
		var err error
		b.First, err = c.buf.firsts(c.tokens, width, length, func(col int) (start, n int) {
			start, predictions := c.column(c.from + col)
			return start + from, min(length, max(0, predictions-from))
		}, func(col, i int) int { return i*width + col })
		if err != nil {
			return Batch{}, err
		}
	}
	epoch := c.at.Epoch
	if c.at = c.advance(c.at); c.at.Epoch != epoch {
		c.steps = 0
	}
	return b, nil
}

func (c *contiguous) Cursor() Cursor { return c.at }

// walk returns the cursor of the batch with this index, or of the end of the
// epoch if there is no such batch.
func (c *contiguous) walk(epoch, index int) Cursor {
	at := Cursor{Epoch: epoch}
	if !c.opts.variable {
		at.Index = min(index, (c.height()+c.bptt-1)/c.bptt)
		at.Position = min(int64(at.Index)*int64(c.bptt), int64(c.height()))
		return at
	}
	for at.Index < index && int(at.Position) < c.height() {
		at.Position += int64(c.length(at))
		at.Index++
	}
	return at
}

func (c *contiguous) Seek(to Cursor) error {
	if to.Epoch < 0 || to.Index < 0 || c.opts.evaluate && to.Epoch != 0 {
		return errCursor
	}
	at := c.walk(to.Epoch, to.Index)
	if at != to || int(at.Position) >= c.height() && !c.opts.evaluate {
		return errCursor
	}
	c.at, c.steps = at, 0
	return nil
}

func (c *contiguous) Steps() int {
	if c.steps == 0 {
		c.steps = c.walk(c.at.Epoch, c.tokens.Len()).Index
	}
	return c.steps
}
