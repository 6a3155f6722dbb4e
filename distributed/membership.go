package distributed

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A Member is one rank's process, as messages name it.
type Member struct {
	Rank int    `json:"rank"`
	Host string `json:"host"`
	PID  int    `json:"pid"`
}

func (m Member) String() string {
	if m.PID == 0 { // before its hello
		return fmt.Sprintf("rank %d on %s", m.Rank, m.Host)
	}
	return fmt.Sprintf("rank %d (process %d on %s)", m.Rank, m.PID, m.Host)
}

// A RankError names the rank whose failure ended the work of all ranks, and the
// reason.
type RankError struct{ Text string }

func (e *RankError) Error() string { return e.Text }

// An Invariant is a value that must be the same in all ranks: a version, a setting,
// a fingerprint.
type Invariant struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// A Membership watches the ranks of a group from the time that all have joined.
// Each follower keeps a connection to rank 0, and both ends send heartbeats over
// it. Rank 0 is the first to learn that a rank has failed, and tells the others.
type Membership struct {
	Self    Member
	Address string // address at which the other ranks reach this process
	Hosts   int    // number of hosts, counted by name

	size       int
	timeout    time.Duration // limit for a rank to join, and to reach an all-reduce that others wait in
	silence    time.Duration // a rank has failed after this time without a heartbeat
	key        []byte        // key of the hello's HMAC
	invariants []Invariant
	reduces    atomic.Int64 // all-reduces that this rank has reached

	mu      sync.Mutex
	peers   map[int]*peer // for rank 0: all other ranks; for a follower: rank 0
	failure *RankError
	failed  chan struct{} // closed when failure is set
	changed chan struct{} // closed and replaced whenever a peer changes
	leaving bool
	refused []string // reasons why rank 0 turned processes away
	latest  progress

	connections sync.WaitGroup
	end         chan struct{} // closed by Leave
}

// progress is the number of the latest all-reduce that any rank has reached, and the
// time.
type progress struct {
	reduces int64
	since   time.Time
}

// maxSilence is the longest time without a heartbeat, however long the timeout.
// Heartbeats are ten times as frequent, and come from their own goroutine.
const maxSilence = 30 * time.Second

// maxPending bounds the connections that have not said hello.
const maxPending = 256

func newMembership(rank, size int, timeout time.Duration, key string, invariants []Invariant) *Membership {
	host, err := os.Hostname()
	if err != nil {
		host = "an unnamed host"
	}
	return &Membership{
		Self: Member{rank, host, os.Getpid()}, size: size,
		timeout: timeout, silence: min(timeout, maxSilence), key: []byte(key), invariants: invariants,
		peers: map[int]*peer{}, failed: make(chan struct{}), changed: make(chan struct{}), end: make(chan struct{}),
	}
}

// Lead makes the membership of rank 0. It accepts the other ranks from l, compares
// each rank's world size and invariants with its own, and returns when all have
// joined. It fails at once if a rank differs, and after timeout if a rank is
// missing. A process that does not know key is turned away without any effect on the
// job.
func Lead(ctx context.Context, l net.Listener, size int, key string, invariants []Invariant, timeout time.Duration) (*Membership, error) {
	m := newMembership(0, size, timeout, key, invariants)
	go m.accept(l)
	go m.sendHeartbeats()
	stop := context.AfterFunc(ctx, m.wake)
	defer stop()
	m.waitUntil(func() bool { return len(m.peers) == size-1 || ctx.Err() != nil }, time.After(timeout))
	_ = l.Close() // nobody else joins
	m.mu.Lock()
	peers := m.byRank()
	refused := slices.Clone(m.refused)
	m.mu.Unlock()
	if ctx.Err() != nil {
		return nil, m.abandon(context.Cause(ctx))
	}
	if len(peers) < size-1 {
		text := fmt.Sprintf("%s of %d did not join rank 0 on %s within %v", missing(peers, size), size, m.Self.Host, timeout)
		if len(refused) > 0 {
			text += "; turned away: " + strings.Join(refused, "; ")
		}
		m.fail("%s", text)
	}
	select {
	case <-m.failed:
		return nil, m.abandon(m.failure)
	default:
	}
	addresses := addressesOf(peers)
	m.Address, m.Hosts = addresses[0], m.countHosts(peers)
	for i, p := range peers {
		_ = p.send(message{Kind: welcome, Member: m.Self, Address: addresses[i+1], Hosts: m.Hosts}, m.silence)
	}
	return m, nil
}

// Follow makes the membership of another rank over a connection to rank 0, and
// returns when all ranks have joined.
func Follow(ctx context.Context, conn net.Conn, rank, size int, key string, invariants []Invariant, timeout time.Duration) (*Membership, error) {
	m := newMembership(rank, size, timeout, key, invariants)
	host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
	leader := &peer{Member: Member{Rank: 0, Host: host}, conn: conn, reader: bufio.NewReader(conn)}
	m.peers[0] = leader
	if err := m.introduce(leader); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("rank %d cannot join rank 0 at %s: %w", rank, conn.RemoteAddr(), err)
	}
	stop := context.AfterFunc(ctx, m.wake)
	defer stop()
	m.connections.Go(func() { m.listen(leader) })
	go m.sendHeartbeats()
	// Rank 0's timeout ends first, and rank 0 reports which rank is missing.
	m.waitUntil(func() bool { return m.Address != "" || ctx.Err() != nil }, time.After(timeout+m.silence))
	if ctx.Err() != nil {
		return nil, m.abandon(context.Cause(ctx))
	}
	select {
	case <-m.failed:
		return nil, m.abandon(m.failure)
	default:
	}
	if m.Address == "" {
		return nil, m.abandon(fmt.Errorf("rank %d waited %v for the other ranks to join", rank, timeout))
	}
	return m, nil
}

// introduce answers rank 0's challenge with a hello.
func (m *Membership) introduce(leader *peer) error {
	if err := leader.conn.SetReadDeadline(time.Now().Add(m.silence)); err != nil {
		return err
	}
	c, err := leader.read()
	if err != nil {
		return err
	}
	if c.Kind != challenge {
		return fmt.Errorf("it answers as another program or version: %q", c.Kind)
	}
	h := message{Kind: hello, Nonce: c.Nonce, Member: m.Self, WorldSize: m.size, Invariants: m.invariants}
	if h.MAC, err = mac(m.key, h); err != nil {
		return err
	}
	return leader.send(h, m.silence)
}

// accept takes connections until the listener is closed. If the process has too many
// open files it tries again: another connection may close.
func (m *Membership) accept(l net.Listener) {
	pending := make(chan struct{}, maxPending)
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			select {
			case <-m.end:
				return
			case <-time.After(retryInterval):
				continue
			}
		}
		select {
		case pending <- struct{}{}:
		default:
			_ = conn.Close()
			continue
		}
		m.connections.Go(func() {
			p := &peer{conn: conn, reader: bufio.NewReader(conn)}
			joined := m.admit(p)
			<-pending
			if joined {
				m.listen(p)
			} else {
				_ = conn.Close()
			}
		})
	}
}

// admit challenges a new connection and reports whether it has joined as a rank.
func (m *Membership) admit(p *peer) bool {
	nonce := rand.Text()
	if p.send(message{Kind: challenge, Nonce: nonce}, m.silence) != nil {
		return false
	}
	_ = p.conn.SetReadDeadline(time.Now().Add(m.silence))
	h, err := p.read()
	if err != nil || h.Kind != hello {
		return false // a port scanner, say
	}
	want, err := mac(m.key, h)
	if err != nil {
		return false
	}
	p.Member = h.Member
	if h.Nonce != nonce || !hmac.Equal(want, h.MAC) {
		return m.refuse(p, "it does not know this run's secret (KOALA_LM_RANK_SECRET must be the same for all ranks)")
	}
	m.mu.Lock()
	twin, taken := m.peers[p.Rank]
	ours := p.Rank > 0 && p.Rank < m.size
	if ours && !taken {
		m.peers[p.Rank] = p
	}
	m.mu.Unlock()
	switch name, theirs, own := m.compare(h); {
	case name != "":
		m.fail("%v was started with other work than rank 0: %s is %s, not %s", p.Member, name, theirs, own)
	case !ours:
		m.fail("%v: ranks are from 0 to %d", p.Member, m.size-1)
	case taken:
		m.fail("%v and %v have the same rank", twin.Member, p.Member)
	}
	m.mu.Lock()
	over := m.failure
	p.left = p.left || over != nil && (!ours || taken)
	m.mu.Unlock()
	if over != nil { // the broadcast may have come before this peer
		_ = p.send(message{Kind: failure, Text: over.Text}, m.silence)
		closeWrite(p.conn)
	}
	m.wake()
	return true
}

// closeWrite signals the end of this side's messages to the other end.
func closeWrite(c net.Conn) {
	if c, ok := c.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite()
	}
}

// refuse turns a process away. The reason goes into the error if a rank is missing
// later.
func (m *Membership) refuse(p *peer, why string) bool {
	_ = p.send(message{Kind: refusal, Text: why}, m.silence)
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.refused) < 4 {
		m.refused = append(m.refused, fmt.Sprintf("a process at %s: %s", p.conn.RemoteAddr(), why))
	}
	return false
}

// compare returns the first invariant that differs, "" if none does.
func (m *Membership) compare(h message) (name, theirs, ours string) {
	if h.WorldSize != m.size {
		return "the world size (WORLD_SIZE)", fmt.Sprint(h.WorldSize), fmt.Sprint(m.size)
	}
	for i := range max(len(h.Invariants), len(m.invariants)) {
		var a, b Invariant
		if i < len(h.Invariants) {
			a = h.Invariants[i]
		}
		if i < len(m.invariants) {
			b = m.invariants[i]
		}
		if a.Name != b.Name {
			return "the program", "another version", "this one"
		}
		if a.Value != b.Value {
			return a.Name, a.Value, b.Value
		}
	}
	return "", "", ""
}

// abandon leaves a membership that some ranks have not joined.
func (m *Membership) abandon(err error) error {
	_ = m.Leave(err)
	return err
}

// byRank returns the peers, lowest rank first.
func (m *Membership) byRank() []*peer {
	var all []*peer
	for rank := range m.size {
		if p := m.peers[rank]; p != nil {
			all = append(all, p)
		}
	}
	return all
}

func (m *Membership) countHosts(peers []*peer) int {
	names := map[string]bool{m.Self.Host: true}
	for _, p := range peers {
		names[p.Host] = true
	}
	return len(names)
}

func missing(peers []*peer, size int) string {
	var names []string
	for rank := 1; rank < size; rank++ {
		if !slices.ContainsFunc(peers, func(p *peer) bool { return p.Rank == rank }) {
			names = append(names, fmt.Sprintf("rank %d", rank))
		}
	}
	if len(names) > 4 {
		names = append(names[:3], fmt.Sprintf("%d more", len(names)-3))
	}
	return strings.Join(names, ", ")
}

// addressesOf returns the addresses of rank 0 and of its peers as the other ranks
// reach them: the far end of a peer's connection, or rank 0's address for a peer
// that has connected from rank 0's own host by loopback.
func addressesOf(peers []*peer) []string {
	own := "127.0.0.1"
	for _, p := range peers {
		if ip := ipOf(p.conn.LocalAddr()); ip != nil && !ip.IsLoopback() {
			own = ip.String()
			break
		}
	}
	all := []string{own}
	for _, p := range peers {
		if from := ipOf(p.conn.RemoteAddr()); from == nil || from.IsLoopback() {
			all = append(all, own)
		} else {
			all = append(all, from.String())
		}
	}
	return all
}

// ipOf returns nil for an address that has none.
func ipOf(a net.Addr) net.IP {
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return nil
	}
	host, _, _ = strings.Cut(host, "%") // an IPv6 zone
	return net.ParseIP(host)
}

// Failed is closed once a rank has failed.
func (m *Membership) Failed() <-chan struct{} { return m.failed }

// ReachedAllReduce counts an all-reduce that this rank is about to make.
func (m *Membership) ReachedAllReduce() { m.reduces.Add(1) }

// Cause returns the reason why an all-reduce failed: a rank's failure, or else err.
// It waits a little, since the message of the failure may arrive after connections
// break.
func (m *Membership) Cause(err error) error {
	select {
	case <-m.failed:
		return m.failure
	case <-time.After(m.silence + m.silence/5):
		return err
	}
}

// fail ends the work of all ranks. Only the first failure counts.
func (m *Membership) fail(format string, args ...any) {
	m.mu.Lock()
	first := m.failure == nil && !m.leaving
	if first {
		m.failure = &RankError{fmt.Sprintf(format, args...)}
		close(m.failed)
	}
	m.mu.Unlock()
	if first && m.Self.Rank == 0 {
		m.broadcast(message{Kind: failure, Text: m.failure.Text})
	}
}

// broadcast sends a message to all peers. A peer that cannot be reached is noticed
// by the reader of its connection.
func (m *Membership) broadcast(msg message) {
	m.mu.Lock()
	var to []*peer
	for _, p := range m.peers {
		to = append(to, p)
	}
	m.mu.Unlock()
	for _, p := range to {
		_ = p.send(msg, m.silence)
	}
}

// sendHeartbeats sends heartbeats until the end of the membership.
func (m *Membership) sendHeartbeats() {
	tick := time.NewTicker(m.silence / 10)
	defer tick.Stop()
	for {
		select {
		case <-m.end:
			return
		case <-tick.C:
			m.broadcast(message{Kind: heartbeat, Reduces: m.reduces.Load()})
			if m.Self.Rank == 0 {
				m.checkStalled()
			}
		}
	}
}

// checkStalled fails a rank that is alive but does not reach an all-reduce in which
// others have waited for longer than the timeout.
func (m *Membership) checkStalled() {
	m.mu.Lock()
	reduces := map[Member]int64{m.Self: m.reduces.Load()}
	for _, p := range m.peers {
		if !p.left {
			reduces[p.Member] = p.reduces
		}
	}
	stalled := Member{Rank: -1}
	for _, n := range reduces {
		if n > m.latest.reduces {
			m.latest = progress{n, time.Now()}
		}
	}
	for rank, n := range reduces {
		if n < m.latest.reduces && time.Since(m.latest.since) > m.timeout && (stalled.Rank < 0 || n < reduces[stalled]) {
			stalled = rank
		}
	}
	m.mu.Unlock()
	if stalled.Rank >= 0 {
		m.fail("%v hangs: the other ranks have waited for it for %v", stalled, m.timeout)
	}
}

// listen reads the messages of a peer until it leaves or fails.
func (m *Membership) listen(p *peer) {
	defer p.conn.Close()
	for {
		var msg message
		err := p.conn.SetReadDeadline(time.Now().Add(m.silence))
		if err == nil {
			msg, err = p.read()
		}
		if err != nil {
			if m.hasLeft(p) {
				return
			}
			var slow net.Error
			if errors.As(err, &slow) && slow.Timeout() {
				m.fail("%v has not been heard of for %v: its host or the network is down, or it was stopped", p.Member, m.silence)
			} else {
				m.fail("%v ended without a word: it was killed, or its host went down", p.Member)
			}
			return
		}
		switch msg.Kind {
		case heartbeat:
			m.update(func() { p.reduces = msg.Reduces })
		case leaving:
			m.update(func() { p.left = true })
			if msg.Text != "" {
				m.fail("%v: %s", p.Member, msg.Text)
			}
		case welcome:
			m.update(func() { m.Address, m.Hosts, p.Member = msg.Address, msg.Hosts, msg.Member })
		case refusal:
			m.update(func() { p.left = true })
			m.fail("%v turned %v away: %s", p.Member, m.Self, msg.Text)
			return
		case failure:
			m.fail("%s", msg.Text)
			return
		case finished:
			m.update(func() { p.left = true })
			return
		}
	}
}

func (m *Membership) hasLeft(p *peer) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return p.left
}

// update changes a peer's state under the lock and wakes waiters.
func (m *Membership) update(change func()) {
	m.mu.Lock()
	change()
	m.mu.Unlock()
	m.wake()
}

// wake makes waitUntil check its condition again.
func (m *Membership) wake() {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.changed)
	m.changed = make(chan struct{})
}

// waitUntil returns when ready is true, a rank has failed, or over fires.
func (m *Membership) waitUntil(ready func() bool, over <-chan time.Time) {
	for {
		m.mu.Lock()
		done, changed := ready(), m.changed
		m.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-m.failed:
			return
		case <-over:
			return
		}
	}
}

func (m *Membership) allLeft() bool {
	for _, p := range m.peers {
		if !p.left {
			return false
		}
	}
	return true
}

// farewell bounds the wait for the last message to arrive.
const farewell = 2 * time.Second

// Leave ends this rank's membership. Without an error it waits until all ranks are
// done, since a launcher may stop all ranks when one ends. It returns err, or the
// failure of a rank.
func (m *Membership) Leave(err error) error {
	defer close(m.end)
	leads := m.Self.Rank == 0
	m.mu.Lock()
	known := m.failure
	m.mu.Unlock()
	switch {
	case known != nil:
		err = known
	case err != nil && leads:
		m.fail("%v: %s", m.Self, reason(err))
	case err != nil:
		m.broadcast(message{Kind: leaving, Text: reason(err)})
		m.waitUntil(m.allLeft, time.After(farewell))
	case leads:
		m.waitUntil(m.allLeft, nil)
		m.broadcast(message{Kind: finished})
	default:
		m.broadcast(message{Kind: leaving})
		m.waitUntil(m.allLeft, nil)
	}
	m.mu.Lock()
	if err == nil && m.failure != nil {
		err = m.failure
	}
	m.leaving = true
	m.mu.Unlock()
	if leads {
		m.hangUp()
	}
	return err
}

func reason(err error) string {
	if errors.Is(err, context.Canceled) {
		return "was interrupted"
	}
	return err.Error()
}

// hangUp lets the last messages arrive before it closes connections: closing one
// with unread input would drop its unsent output.
func (m *Membership) hangUp() {
	m.mu.Lock()
	for _, p := range m.peers {
		closeWrite(p.conn)
	}
	m.mu.Unlock()
	over := make(chan struct{})
	go func() { m.connections.Wait(); close(over) }()
	select {
	case <-over:
	case <-time.After(farewell):
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, p := range m.peers {
			_ = p.conn.Close()
		}
	}
}
