package ranks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A Member is a process as messages name it.
type Member struct {
	Rank int    `json:"rank"`
	Host string `json:"host"`
	PID  int    `json:"pid"`
}

func (m Member) String() string {
	if m.PID == 0 { // has not said hello
		return fmt.Sprintf("rank %d on %s", m.Rank, m.Host)
	}
	return fmt.Sprintf("rank %d (process %d on %s)", m.Rank, m.PID, m.Host)
}

// A LostError says which rank ended the work of all, and why.
type LostError struct{ Text string }

func (e *LostError) Error() string { return e.Text }

// A Circle is the ranks from the time that all have come: each follower has a
// connection to rank 0, over which both give signs of life. Rank 0 learns first
// that one is lost, and tells the others.
type Circle struct {
	Self    Member
	Address string // of this process, as the others reach it
	Hosts   int    // how many the ranks are on, by their names

	size     int
	patience time.Duration // for a rank to come, and to come to a sum that another waits in
	silence  time.Duration // that passes for death
	sums     atomic.Int64  // that this process has come to

	mu      sync.Mutex
	peers   map[int]*peer // of rank 0 all others, of the others rank 0
	lost    *LostError
	gone    chan struct{} // closed when lost is set
	changed chan struct{} // closed and made anew when a peer comes or leaves
	leaving bool
	furthest

	listening sync.WaitGroup
	end       chan struct{} // closed when the circle is over
}

// peer is the other end of a connection.
type peer struct {
	Member
	conn  *net.TCPConn
	facts []Fact
	read  *json.Decoder
	write sync.Mutex
	sums  int64
	left  bool
}

// message is all that is said, one JSON object a line.
type message struct {
	Kind    kind   `json:"kind"`
	Member  Member `json:"member,omitzero"`
	Facts   []Fact `json:"facts,omitempty"`
	Address string `json:"address,omitempty"`
	Hosts   int    `json:"hosts,omitempty"`
	Sums    int64  `json:"sums,omitempty"`
	Text    string `json:"text,omitempty"`
}

type kind string

const (
	hello   kind = "hello"   // a follower: who it is and what it was given
	welcome kind = "welcome" // rank 0: all are there; on how many hosts, and the address under which others reach you
	beat    kind = "beat"    // both: alive
	left    kind = "left"    // a follower: done, or with a text failed
	lost    kind = "lost"    // rank 0: it is over, and why
	bye     kind = "bye"     // rank 0: all are done
)

// mostSilence is how long a process may say nothing, however patient the others:
// signs of life come ten times as often, from a thread of their own.
const mostSilence = 30 * time.Second

func newCircle(rank, size int, patience time.Duration) *Circle {
	host, err := os.Hostname()
	if err != nil {
		host = "an unnamed host"
	}
	return &Circle{
		Self: Member{rank, host, os.Getpid()}, size: size,
		patience: patience, silence: min(patience, mostSilence),
		peers: map[int]*peer{}, gone: make(chan struct{}), changed: make(chan struct{}), end: make(chan struct{}),
	}
}

// Lost is closed once a rank is lost.
func (c *Circle) Lost() <-chan struct{} { return c.gone }

// Summing notes that this process has come to its next sum.
func (c *Circle) Summing() { c.sums.Add(1) }

// Cause returns why a sum failed: the loss of a rank, of which word may come a
// little later than its connections break, or else the error itself.
func (c *Circle) Cause(err error) error {
	select {
	case <-c.gone:
		return c.lost
	case <-time.After(c.silence + c.silence/5):
		return err
	}
}

// lose ends the work of all.
func (c *Circle) lose(format string, args ...any) {
	c.mu.Lock()
	first := c.lost == nil && !c.leaving
	if first {
		c.lost = &LostError{fmt.Sprintf(format, args...)}
		close(c.gone)
	}
	c.mu.Unlock()
	if first && c.Self.Rank == 0 {
		c.tell(message{Kind: lost, Text: c.lost.Text})
	}
}

// tell sends a message to all peers. One that cannot be reached is missed by who
// listens to it.
func (c *Circle) tell(m message) {
	c.mu.Lock()
	var to []*peer
	for _, p := range c.peers {
		to = append(to, p)
	}
	c.mu.Unlock()
	for _, p := range to {
		_ = p.send(m, c.silence)
	}
}

func (p *peer) send(m message, within time.Duration) error {
	p.write.Lock()
	defer p.write.Unlock()
	if err := p.conn.SetWriteDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	return json.NewEncoder(p.conn).Encode(m)
}

// live gives signs of life until the circle is over.
func (c *Circle) live() {
	tick := time.NewTicker(c.silence / 10)
	defer tick.Stop()
	for {
		select {
		case <-c.end:
			return
		case <-tick.C:
			c.tell(message{Kind: beat, Sums: c.sums.Load()})
			if c.Self.Rank == 0 {
				c.hurry()
			}
		}
	}
}

// furthest is the latest sum that any rank has come to, and when it did.
type furthest struct {
	reached int64
	since   time.Time
}

// hurry looks for a rank that is alive and does not come to a sum that others
// wait in.
func (c *Circle) hurry() {
	c.mu.Lock()
	sums := map[Member]int64{c.Self: c.sums.Load()}
	for _, p := range c.peers {
		if !p.left {
			sums[p.Member] = p.sums
		}
	}
	late := Member{Rank: -1}
	for _, n := range sums {
		if n > c.reached {
			c.reached, c.since = n, time.Now()
		}
	}
	for m, n := range sums {
		if n < c.reached && time.Since(c.since) > c.patience && (late.Rank < 0 || n < sums[late]) {
			late = m
		}
	}
	c.mu.Unlock()
	if late.Rank >= 0 {
		c.lose("%v hangs: the others have waited for it for %v", late, c.patience)
	}
}

// listen takes in what a peer says, until it leaves or is lost.
func (c *Circle) listen(p *peer) {
	defer p.conn.Close()
	for {
		var m message
		err := p.conn.SetReadDeadline(time.Now().Add(c.silence))
		if err == nil {
			err = p.read.Decode(&m)
		}
		if err != nil {
			if c.hasLeft(p) {
				return
			}
			var slow net.Error
			if errors.As(err, &slow) && slow.Timeout() {
				c.lose("%v has not been heard of for %v: its host or the network is down, or it was stopped", p.Member, c.silence)
			} else {
				c.lose("%v ended without a word: it was killed, or its host went down", p.Member)
			}
			return
		}
		switch m.Kind {
		case beat:
			c.note(func() { p.sums = m.Sums })
		case left:
			c.note(func() { p.left = true })
			if m.Text != "" {
				c.lose("%v: %s", p.Member, m.Text)
			}
		case welcome:
			c.note(func() { c.Address, c.Hosts, p.Member = m.Address, m.Hosts, m.Member })
		case lost:
			c.lose("%s", m.Text)
			return
		case bye:
			c.note(func() { p.left = true })
			return
		}
	}
}

func (c *Circle) hasLeft(p *peer) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return p.left
}

// note changes what is known of a peer.
func (c *Circle) note(change func()) {
	c.mu.Lock()
	change()
	c.mu.Unlock()
	c.wake()
}

// wake has who waits look again.
func (c *Circle) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.changed)
	c.changed = make(chan struct{})
}

// until waits for what peers say to make ready true, or for a loss, or for over.
func (c *Circle) until(ready func() bool, over <-chan time.Time) {
	for {
		c.mu.Lock()
		done, changed := ready(), c.changed
		c.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-c.gone:
			return
		case <-over:
			return
		}
	}
}

func (c *Circle) allLeft() bool {
	for _, p := range c.peers {
		if !p.left {
			return false
		}
	}
	return true
}

// lastWords is how long a rank that fails waits for its word to arrive.
const lastWords = 2 * time.Second

// Leave ends this process's part. Without an error it waits until all are done:
// who starts the ranks may take the end of one for that of all. The error that
// it returns is err, or the loss of a rank.
func (c *Circle) Leave(err error) error {
	defer close(c.end)
	leads := c.Self.Rank == 0
	c.mu.Lock()
	known := c.lost
	c.mu.Unlock()
	switch {
	case known != nil:
		err = known
	case err != nil && leads:
		c.lose("%v: %s", c.Self, reason(err))
	case err != nil:
		c.tell(message{Kind: left, Text: reason(err)})
		c.until(c.allLeft, time.After(lastWords))
	case leads:
		c.until(c.allLeft, nil)
		c.tell(message{Kind: bye})
	default:
		c.tell(message{Kind: left})
		c.until(c.allLeft, nil)
	}
	c.mu.Lock()
	if err == nil && c.lost != nil {
		err = c.lost
	}
	c.leaving = true
	c.mu.Unlock()
	if leads {
		c.hangUp()
	}
	return err
}

func reason(err error) string {
	if errors.Is(err, context.Canceled) {
		return "was interrupted"
	}
	return err.Error()
}

// hangUp lets what was told last arrive: a connection that is closed while
// something comes in drops what goes out.
func (c *Circle) hangUp() {
	c.mu.Lock()
	for _, p := range c.peers {
		_ = p.conn.CloseWrite()
	}
	c.mu.Unlock()
	over := make(chan struct{})
	go func() { c.listening.Wait(); close(over) }()
	select {
	case <-over:
	case <-time.After(lastWords):
	}
}
