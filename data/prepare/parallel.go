package prepare

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"unicode"
	"unicode/utf8"

	"github.com/koala-lm/koala-lm/data/tokenizer"
)

// pieceSize is the approximate size of the text that a worker gets at a time.
// Longer documents are cut where the cut changes nothing; several shorter ones
// share a piece.
const pieceSize = 1 << 20

// longestUncut bounds the text that is searched for a cut.
const longestUncut = 256 << 20

// piece is text for one worker: documents, and parts of documents.
type piece struct {
	text      []byte
	spans     []span
	at        int64 // bytes of the split before it
	continues bool  // the last document continues in the next piece
	done      chan struct{}
	err       error

	tokens []byte  // the encoded text (encode)
	starts []int64 // tokens of the piece before each document that begins in it (encode)
	stats  stats   // counts of the piece (encode)
}

// span is the part of a document that is in a piece.
type span struct {
	start, end int
	begins     bool // the document starts here
	ends       bool // the document ends here
	first      bool // it is the first document of the split
	joined     bool // the span starts inside a word, which began in the previous piece
}

// part says where the span lies in its document.
func (s span) part() (part tokenizer.Part) {
	if s.begins {
		part |= tokenizer.Starts
	}
	if s.ends {
		part |= tokenizer.Ends
	}
	return part
}

// pieces reads extents of the spool in order, lets workers process them, and
// passes the results to take in the same order. cut finds where a long document
// may be cut; work makes the function that a worker calls. A piece's content
// does not depend on the number of workers.
type pieces struct {
	spool    *spool
	extents  []extent
	skip     int // pieces at the start that no worker gets
	workers  int
	cut      func(text []byte, part tokenizer.Part) int
	work     func() func(p *piece) error
	take     func(p *piece) error
	progress Progress
}

func (ps pieces) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var (
		wg    sync.WaitGroup
		jobs  = make(chan *piece)
		order = make(chan *piece, ps.workers+1)
		free  = sync.Pool{New: func() any { return new(piece) }}
	)
	defer wg.Wait()
	defer cancel()
	var readErr error
	var skipped atomic.Int64 // bytes
	read := 0
	wg.Go(func() {
		defer close(order)
		defer close(jobs)
		readErr = ps.read(func() *piece {
			p := free.Get().(*piece)
			*p = piece{text: p.text[:0], spans: p.spans[:0], tokens: p.tokens[:0], starts: p.starts[:0], done: make(chan struct{})}
			return p
		}, func(p *piece) error {
			if read++; read <= ps.skip {
				skipped.Add(int64(len(p.text)))
				free.Put(p)
				return ctx.Err()
			}
			for _, to := range []chan *piece{order, jobs} {
				select {
				case to <- p:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		})
	})
	for range ps.workers {
		work := ps.work()
		wg.Go(func() {
			for p := range jobs {
				p.err = work(p)
				close(p.done)
			}
		})
	}
	for p := range order {
		select {
		case <-p.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if p.err != nil {
			return p.err
		}
		if ps.take != nil {
			if err := ps.take(p); err != nil {
				return err
			}
		}
		ps.progress.Add(int64(len(p.text)) + skipped.Swap(0))
		free.Put(p)
	}
	return readErr // written before order was closed
}

// read cuts the extents into pieces.
func (ps pieces) read(fresh func() *piece, send func(*piece) error) error {
	var (
		p    = fresh()
		done int64
	)
	flush := func() error {
		if len(p.text) == 0 {
			return nil
		}
		size := int64(len(p.text))
		if err := send(p); err != nil {
			return err
		}
		done += size
		p = fresh()
		p.at = done
		return nil
	}
	for i, e := range ps.extents {
		begins, inWord := true, false
		for e.start < e.end {
			from := len(p.text)
			room := int64(max(pieceSize-from, 1<<12))
			text, n, err := ps.part(p.text, e, room, span{begins: begins}.part())
			if err != nil {
				return err
			}
			p.text = text
			p.spans = append(p.spans, span{
				start: from, end: len(text), begins: begins, first: begins && i == 0,
				joined: inWord && !startsWithSpace(text[from:]),
			})
			e.start += n
			p.spans[len(p.spans)-1].ends = e.start == e.end
			begins, inWord = false, !endsWithSpace(text[from:])
			p.continues = e.start < e.end
			if len(p.text) >= pieceSize || p.continues {
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
	return flush()
}

// part appends about room bytes from the start of e to dst: all of e, or up to
// a place where it may be cut. at tells whether e starts its document.
func (ps pieces) part(dst []byte, e extent, room int64, at tokenizer.Part) (text []byte, n int64, err error) {
	from := len(dst)
	for ; ; room *= 2 {
		n = min(room, e.size())
		if dst, err = ps.spool.append(dst[:from], extent{e.start, e.start + n}); err != nil {
			return nil, 0, err
		}
		if n == e.size() {
			return dst, n, nil
		}
		if cut := ps.cut(dst[from:], at); cut > 0 {
			return dst[:from+cut], int64(cut), nil
		}
		if room > longestUncut {
			return nil, 0, errors.New("there are 256 MiB of text without a line end or white space to cut it at")
		}
	}
}

// append reads an extent to the end of dst.
func (s *spool) append(dst []byte, e extent) ([]byte, error) {
	from, n := len(dst), int(e.size())
	if cap(dst)-from < n {
		dst = append(make([]byte, 0, max(2*cap(dst), from+n)), dst...)
	}
	dst = dst[:from+n]
	if _, err := s.f.ReadAt(dst[from:], e.start); err != nil {
		return nil, fmt.Errorf("read the text back: %w", err)
	}
	return dst, nil
}

func startsWithSpace(text []byte) bool {
	r, _ := utf8.DecodeRune(text)
	return unicode.IsSpace(r)
}

func endsWithSpace(text []byte) bool {
	r, _ := utf8.DecodeLastRune(text)
	return unicode.IsSpace(r)
}
