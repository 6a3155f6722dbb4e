package corpus

import (
	"context"
	"io"
)

// ahead reads a few blocks of a stream in advance, in its own goroutine. So
// reading and checksums overlap with decompressing, checking and writing.
type ahead struct {
	ctx    context.Context
	blocks chan block
	free   chan []byte
	stop   chan struct{}
	now    block
	rest   []byte
}

type block struct {
	buffer []byte
	n      int
	err    error
}

const (
	aheadBlocks = 4
	aheadSize   = 1 << 18
)

func readAhead(ctx context.Context, r io.Reader) *ahead {
	a := &ahead{ctx: ctx, blocks: make(chan block, aheadBlocks), free: make(chan []byte, aheadBlocks), stop: make(chan struct{})}
	for range aheadBlocks {
		a.free <- make([]byte, aheadSize)
	}
	go a.run(r)
	return a
}

func (a *ahead) run(r io.Reader) {
	defer close(a.blocks)
	for {
		var buffer []byte
		select {
		case buffer = <-a.free:
		case <-a.stop:
			return
		}
		n, err := r.Read(buffer)
		a.blocks <- block{buffer, n, err} // never blocks: blocks has room for all buffers
		if err != nil {
			return
		}
	}
}

func (a *ahead) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.now.err != nil {
			return 0, a.now.err
		}
		if a.now.buffer != nil {
			a.free <- a.now.buffer
		}
		select {
		case a.now = <-a.blocks:
		case <-a.ctx.Done():
			return 0, a.ctx.Err()
		}
		a.rest = a.now.buffer[:a.now.n]
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// Close ends the goroutine and waits for it; the stream may then be used again. After
// the end of the context it does not wait: a pipe or terminal may never answer.
func (a *ahead) Close() {
	close(a.stop)
	for a.ctx.Err() == nil {
		select {
		case _, more := <-a.blocks:
			if !more {
				return
			}
		case <-a.ctx.Done():
		}
	}
}
