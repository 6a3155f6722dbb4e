package distributed

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A joining is a set of ranks that join one another in this process, over pipes. In
// a synctest bubble the test controls their time.
type joining struct {
	size       int
	timeout    time.Duration
	invariants func(rank int) []Invariant
	worldSize  map[int]int    // of the ranks that were told another one
	keys       map[int]string // of the ranks that have another one
	absent     int            // a rank that does not join, 0 for none
	strangers  []func(net.Conn)
}

// pipes is a listener whose connections are pipes.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return nil }

func (p *pipes) dial(t *testing.T) net.Conn {
	t.Helper()
	near, far := net.Pipe()
	select {
	case p.conns <- far:
	case <-p.done:
		_ = far.Close()
	}
	return near
}

const testKey = "token\x00secret"

// join returns each rank's membership or error.
func (j joining) join(t *testing.T, ctx context.Context) ([]*Membership, []error) {
	t.Helper()
	l := newPipes()
	members, errs := make([]*Membership, j.size), make([]error, j.size)
	var wait sync.WaitGroup
	for rank := range j.size {
		if rank > 0 && rank == j.absent {
			continue
		}
		var invariants []Invariant
		if j.invariants != nil {
			invariants = j.invariants(rank)
		}
		size, key := j.size, testKey
		if n, ok := j.worldSize[rank]; ok {
			size = n
		}
		if k, ok := j.keys[rank]; ok {
			key = k
		}
		wait.Go(func() {
			if rank == 0 {
				members[0], errs[0] = Lead(ctx, l, size, key, invariants, j.timeout)
			} else {
				members[rank], errs[rank] = Follow(ctx, l.dial(t), rank, size, key, invariants, j.timeout)
			}
		})
		if rank == 0 {
			for _, stranger := range j.strangers {
				stranger(l.dial(t))
			}
		}
	}
	wait.Wait()
	return members, errs
}

func (j joining) mustJoin(t *testing.T) []*Membership {
	t.Helper()
	members, errs := j.join(t, t.Context())
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return members
}

// leave has all ranks leave, with these errors, and returns the errors of Leave.
func leave(members []*Membership, errs map[int]error) []error {
	told := make([]error, len(members))
	var wait sync.WaitGroup
	for rank, m := range members {
		if m != nil {
			wait.Go(func() { told[rank] = m.Leave(errs[rank]) })
		}
	}
	wait.Wait()
	return told
}

// wants checks the ranks' errors.
func wants(t *testing.T, errs []error, text string, ranks ...int) {
	t.Helper()
	for _, rank := range ranks {
		if errs[rank] == nil || !strings.Contains(errs[rank].Error(), text) {
			t.Errorf("rank %d: %v, want %q", rank, errs[rank], text)
		}
	}
}

func TestMembership(t *testing.T) {
	for _, test := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"all join and leave", func(t *testing.T) {
			members := joining{size: 4, timeout: time.Minute}.mustJoin(t)
			for rank, m := range members {
				if m.Self.Rank != rank || m.Address != "127.0.0.1" || m.Hosts != 1 {
					t.Errorf("rank %d is %v at %s, on %d hosts", rank, m.Self, m.Address, m.Hosts)
				}
			}
			for rank, err := range leave(members, nil) {
				if err != nil {
					t.Errorf("rank %d: %v", rank, err)
				}
			}
		}},
		{"who leaves waits for rank 0", func(t *testing.T) {
			members := joining{size: 2, timeout: time.Minute}.mustJoin(t)
			done := make(chan error, 1)
			go func() { done <- members[1].Leave(nil) }()
			synctest.Wait()
			select {
			case err := <-done:
				t.Fatalf("rank 1 has left before rank 0: %v", err)
			default:
			}
			if err := members[0].Leave(nil); err != nil {
				t.Error(err)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		}},
		{"a failure of rank 0 reaches all", func(t *testing.T) { failureReachesAll(t, 0) }},
		{"a failure of a follower reaches all", func(t *testing.T) { failureReachesAll(t, 2) }},
		{"the death of rank 0 is seen", func(t *testing.T) { deathIsSeen(t, 0) }},
		{"the death of a follower is seen", func(t *testing.T) { deathIsSeen(t, 1) }},
		{"silence is seen", func(t *testing.T) {
			members := joining{size: 3, timeout: 5 * time.Second}.mustJoin(t)
			began := time.Now()
			close(members[1].end) // no more heartbeats
			<-members[0].Failed()
			if took := time.Since(began); took < 5*time.Second || took > 6*time.Second {
				t.Errorf("seen after %v, want 5 to 6s", took)
			}
			<-members[2].Failed()
			told := leave([]*Membership{members[0], nil, members[2]}, nil)
			wants(t, told, "rank 1 (process", 0, 2)
			wants(t, told, "has not been heard of for 5s", 0, 2)
		}},
		{"a rank that stalls is seen", func(t *testing.T) {
			members := joining{size: 3, timeout: 3 * time.Second}.mustJoin(t)
			began := time.Now()
			members[0].ReachedAllReduce()
			members[2].ReachedAllReduce()
			<-members[2].Failed()
			if took := time.Since(began); took < 3*time.Second || took > 4*time.Second {
				t.Errorf("seen after %v, want 3 to 4s", took)
			}
			told := leave(members, nil)
			wants(t, told, "rank 1 (process", 0, 1, 2)
			wants(t, told, "hangs: the other ranks have waited for it for 3s", 0, 1, 2)
		}},
		{"slow ranks that advance together do not stall", func(t *testing.T) {
			members := joining{size: 3, timeout: 3 * time.Second}.mustJoin(t)
			for range 10 {
				time.Sleep(2 * time.Second) // of the bubble's time
				for _, m := range members {
					m.ReachedAllReduce()
				}
			}
			for rank, err := range leave(members, nil) {
				if err != nil {
					t.Errorf("rank %d: %v", rank, err)
				}
			}
		}},
		{"a missing rank is named", func(t *testing.T) {
			_, errs := joining{size: 3, timeout: time.Minute, absent: 2}.join(t, t.Context())
			wants(t, errs, "rank 2 of 3 did not join rank 0 on", 0, 1)
		}},
		{"an interruption ends joining", func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			go func() { synctest.Wait(); cancel() }()
			_, errs := joining{size: 3, timeout: time.Minute, absent: 2}.join(t, ctx)
			for _, rank := range []int{0, 1} {
				if !errors.Is(errs[rank], context.Canceled) {
					t.Errorf("rank %d: %v", rank, errs[rank])
				}
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) { synctest.Test(t, test.run) })
	}
}

func failureReachesAll(t *testing.T, who int) {
	members := joining{size: 3, timeout: time.Minute}.mustJoin(t)
	others := append([]*Membership(nil), members...)
	others[who] = nil
	told := make(chan []error, 1)
	go func() {
		for _, m := range others {
			if m != nil {
				<-m.Failed()
			}
		}
		told <- leave(others, nil)
	}()
	if err := members[who].Leave(errors.New("no more memory")); err == nil {
		t.Errorf("rank %d: no error", who)
	}
	errs := <-told
	for rank := range 3 {
		if rank != who {
			wants(t, errs, fmt.Sprintf("%v: no more memory", members[who].Self), rank)
		}
	}
}

func deathIsSeen(t *testing.T, who int) {
	members := joining{size: 3, timeout: time.Minute}.mustJoin(t)
	dead := members[who]
	dead.mu.Lock()
	dead.leaving = true // its own part sends nothing more
	dead.mu.Unlock()
	close(dead.end)
	for _, p := range dead.peers {
		_ = p.conn.Close() // as the kernel does for a process that is killed
	}
	<-members[2].Failed()
	told := members[2].Cause(errors.New("connection closed"))
	wants(t, []error{told}, fmt.Sprintf("%v ended without a word", dead.Self), 0)
	others := append([]*Membership(nil), members...)
	others[who] = nil
	leave(others, nil)
}

// Invariants are compared at each rank's hello, before other ranks have joined.
func TestDifferencesAreTold(t *testing.T) {
	lr := func(rank int) []Invariant {
		return []Invariant{{"train.batch", "20"}, {"optimizer.lr", []string{"0.1", "0.2", "0.1"}[rank]}}
	}
	for _, test := range []struct {
		name string
		joining
		want string
	}{
		{"a setting", joining{size: 3, invariants: lr}, "rank 1 (process"},
		{"a setting by its values", joining{size: 3, invariants: lr}, "was started with other work than rank 0: optimizer.lr is 0.2, not 0.1"},
		{"the world size", joining{size: 3, worldSize: map[int]int{1: 4}}, "the world size (WORLD_SIZE) is 4, not 3"},
		{"a rank beyond the world size of rank 0", joining{size: 3, worldSize: map[int]int{0: 2}}, "the world size (WORLD_SIZE) is 3, not 2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				test.timeout, test.absent = time.Hour, 0
				_, errs := test.join(t, t.Context())
				wants(t, errs, test.want, 0)
				for rank, err := range errs {
					if err == nil {
						t.Errorf("rank %d joined", rank)
					}
				}
				if took := time.Since(began); took > 2*farewell {
					t.Errorf("told after %v", took)
				}
			})
		})
	}
}

// A process that does not know the secret is turned away without any effect on the
// job.
func TestWrongSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, errs := joining{size: 3, timeout: time.Minute, keys: map[int]string{1: "token\x00other"}}.join(t, t.Context())
		wants(t, errs, "turned rank 1 (process", 1)
		wants(t, errs, "KOALA_LM_RANK_SECRET", 0, 1, 2)
		wants(t, errs, "rank 1 of 3 did not join rank 0 on", 0, 2)
	})
}

// A connection from outside the job does not end the job, and takes no more memory
// than a frame.
func TestStrangers(t *testing.T) {
	frame := func(length uint32, text string) func(net.Conn) {
		return func(c net.Conn) {
			go func() {
				_, _ = io.CopyN(io.Discard, c, 64)
			}()
			go func() {
				_, _ = c.Write(append(binary.BigEndian.AppendUint32(nil, length), text...))
			}()
		}
	}
	hello := `{"kind":"hello","member":{"rank":7,"host":"evil","pid":1},"world_size":2,"nonce":"x","mac":"AAAA"}`
	for _, test := range []struct {
		name     string
		stranger func(net.Conn)
	}{
		{"says nothing", func(net.Conn) {}},
		{"closes at once", func(c net.Conn) { _ = c.Close() }},
		{"speaks HTTP", frame(0x47455420, "/ HTTP/1.1\r\n\r\n")},
		{"announces a frame of 4 GB", frame(1<<32-1, strings.Repeat("[", 1000))},
		{"sends no JSON", frame(5, "hello")},
		{"says hello without the secret", frame(uint32(len(hello)), hello)},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var conn net.Conn
				j := joining{size: 2, timeout: time.Minute, strangers: []func(net.Conn){func(c net.Conn) { conn = c; test.stranger(c) }}}
				for rank, err := range leave(j.mustJoin(t), nil) {
					if err != nil {
						t.Errorf("rank %d: %v", rank, err)
					}
				}
				_ = conn.Close()
			})
		})
	}
}

// Over TCP the ranks also learn their addresses, and the listener closes.
func TestJoinOverTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	members, errs := make([]*Membership, 3), make([]error, 3)
	var wait sync.WaitGroup
	for rank := range members {
		wait.Go(func() {
			if rank == 0 {
				members[0], errs[0] = Lead(t.Context(), l, 3, testKey, nil, time.Minute)
				return
			}
			conn, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				errs[rank] = err
				return
			}
			members[rank], errs[rank] = Follow(t.Context(), conn, rank, 3, testKey, nil, time.Minute)
		})
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	for rank, m := range members {
		if m.Address != "127.0.0.1" {
			t.Errorf("rank %d is at %s", rank, m.Address)
		}
	}
	if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
		_ = c.Close()
		t.Error("rank 0 still listens")
	}
	for rank, err := range leave(members, nil) {
		if err != nil {
			t.Errorf("rank %d: %v", rank, err)
		}
	}
}

// If two processes have the same rank, the error names both.
func TestTwins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		errs := make([]error, 3)
		var wait sync.WaitGroup
		wait.Go(func() { _, errs[0] = Lead(t.Context(), l, 3, testKey, nil, time.Minute) })
		for i := range 2 {
			wait.Go(func() { _, errs[1+i] = Follow(t.Context(), l.dial(t), 1, 3, testKey, nil, time.Minute) })
		}
		wait.Wait()
		wants(t, errs, "have the same rank", 0, 1, 2)
	})
}

func FuzzReadMessage(f *testing.F) {
	for _, text := range []string{`{"kind":"heartbeat","reduces":3}`, `{"kind":"hello","mac":"AA=="}`, "{", ""} {
		f.Add(append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...))
	}
	f.Add([]byte{255, 255, 255, 255, '['})
	f.Fuzz(func(t *testing.T, content []byte) {
		_, _ = readMessage(bytes.NewReader(content))
	})
}
