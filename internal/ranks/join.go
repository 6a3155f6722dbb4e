package ranks

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
)

// A Fact is something that must be the same for all ranks.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Lead makes the circle of rank 0: it waits for all others to come, for as long as
// its patience, and compares their facts with its own.
func Lead(ctx context.Context, l *net.TCPListener, size int, facts []Fact, patience time.Duration) (*Circle, error) {
	c := newCircle(0, size, patience)
	go c.accept(l)
	go c.live()
	stop := context.AfterFunc(ctx, c.wake)
	defer stop()
	c.until(func() bool { return len(c.peers) == size-1 || ctx.Err() != nil }, time.After(patience))
	_ = l.Close() // nobody else is to come
	c.mu.Lock()
	peers := c.ranks()
	c.mu.Unlock()
	if ctx.Err() != nil {
		return nil, c.failed(context.Cause(ctx))
	}
	if len(peers) < size-1 {
		c.lose("%s of %d has not come to rank 0 on %s within %v", missing(peers, size), size, c.Self.Host, patience)
	}
	for _, p := range peers {
		if name, theirs, ours := differ(p.facts, facts); name != "" {
			c.lose("%v was started with other work than rank 0: %s is %s, not %s", p.Member, name, theirs, ours)
		}
	}
	select {
	case <-c.gone:
		return nil, c.failed(c.lost)
	default:
	}
	addresses := addressesOf(peers)
	c.Address, c.Hosts = addresses[0], c.hosts(peers)
	for i, p := range peers {
		_ = p.send(message{Kind: welcome, Member: c.Self, Address: addresses[i+1], Hosts: c.Hosts}, c.silence)
	}
	return c, nil
}

// failed gives up a circle that has not become one.
func (c *Circle) failed(err error) error {
	_ = c.Leave(err)
	return err
}

// accept takes in who comes. Who does not say hello is nobody.
func (c *Circle) accept(l *net.TCPListener) {
	for {
		conn, err := l.AcceptTCP()
		if err != nil {
			return // closed
		}
		c.listening.Go(func() {
			p := &peer{conn: conn, read: json.NewDecoder(conn)}
			var m message
			_ = conn.SetReadDeadline(time.Now().Add(c.silence))
			if err := p.read.Decode(&m); err != nil || m.Kind != hello {
				conn.Close()
				return
			}
			p.Member, p.facts = m.Member, m.Facts
			c.mu.Lock()
			twin, taken := c.peers[p.Rank]
			if !taken && p.Rank > 0 && p.Rank < c.size {
				c.peers[p.Rank] = p
			}
			c.mu.Unlock()
			switch {
			case taken:
				c.lose("%v and %v have the same rank", twin.Member, p.Member)
			case p.Rank <= 0 || p.Rank >= c.size:
				c.lose("%v: ranks are from 0 to %d", p.Member, c.size-1)
			}
			c.wake()
			c.listen(p)
		})
	}
}

// ranks are the peers by rank.
func (c *Circle) ranks() []*peer {
	var all []*peer
	for rank := range c.size {
		if p := c.peers[rank]; p != nil {
			all = append(all, p)
		}
	}
	return all
}

// hosts counts the names of the hosts.
func (c *Circle) hosts(peers []*peer) int {
	names := map[string]bool{c.Self.Host: true}
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

// differ returns the first fact that is not the same.
func differ(theirs, ours []Fact) (name, their, our string) {
	for i := range max(len(theirs), len(ours)) {
		var a, b Fact
		if i < len(theirs) {
			a = theirs[i]
		}
		if i < len(ours) {
			b = ours[i]
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

// addressesOf returns the addresses of rank 0 and of its peers as the others can
// reach them: those that their connections have, but for peers on rank 0's own
// host, which may have come by the loopback: they have rank 0's.
func addressesOf(peers []*peer) []string {
	own := "127.0.0.1"
	for _, p := range peers {
		if at := p.conn.LocalAddr().(*net.TCPAddr).IP; !at.IsLoopback() {
			own = at.String()
			break
		}
	}
	all := []string{own}
	for _, p := range peers {
		if from := p.conn.RemoteAddr().(*net.TCPAddr).IP; from.IsLoopback() {
			all = append(all, own)
		} else {
			all = append(all, from.String())
		}
	}
	return all
}

// Follow joins the circle of the rank 0 that listens at an address, and returns
// when all have come.
func Follow(ctx context.Context, address string, rank, size int, facts []Fact, patience time.Duration) (*Circle, error) {
	c := newCircle(rank, size, patience)
	dialer := net.Dialer{Timeout: patience}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("rank %d cannot reach rank 0: %w", rank, err)
	}
	host, _, _ := net.SplitHostPort(address)
	leader := &peer{Member: Member{Rank: 0, Host: host}, conn: conn.(*net.TCPConn), read: json.NewDecoder(conn)}
	c.peers[0] = leader
	if err := leader.send(message{Kind: hello, Member: c.Self, Facts: facts}, c.silence); err != nil {
		return nil, fmt.Errorf("rank %d cannot reach rank 0: %w", rank, err)
	}
	stop := context.AfterFunc(ctx, c.wake)
	defer stop()
	c.listening.Go(func() { c.listen(leader) })
	go c.live()
	// Rank 0's patience ends first, and it says who is missing.
	c.until(func() bool { return c.Address != "" || ctx.Err() != nil }, time.After(patience+c.silence))
	if ctx.Err() != nil {
		return nil, c.failed(context.Cause(ctx))
	}
	select {
	case <-c.gone:
		return nil, c.failed(c.lost)
	default:
	}
	if c.Address == "" {
		return nil, c.failed(fmt.Errorf("rank %d has waited for the others for %v", rank, patience))
	}
	return c, nil
}
