package ranks

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// A trial is ranks that join one another in this process.
type trial struct {
	size     int
	patience time.Duration
	facts    func(rank int) []Fact
	absent   int // a rank that does not come, 0 for none
}

// join returns each rank's circle or error.
func (tr trial) join(t *testing.T, ctx context.Context) ([]*Circle, []error) {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	circles, errs := make([]*Circle, tr.size), make([]error, tr.size)
	facts := func(rank int) []Fact {
		if tr.facts == nil {
			return nil
		}
		return tr.facts(rank)
	}
	var wait sync.WaitGroup
	for rank := range tr.size {
		if rank > 0 && rank == tr.absent {
			continue
		}
		wait.Go(func() {
			if rank == 0 {
				circles[0], errs[0] = Lead(ctx, l, tr.size, facts(0), tr.patience)
			} else {
				circles[rank], errs[rank] = Follow(ctx, l.Addr().String(), rank, tr.size, facts(rank), tr.patience)
			}
		})
	}
	wait.Wait()
	return circles, errs
}

func (tr trial) mustJoin(t *testing.T) []*Circle {
	t.Helper()
	circles, errs := tr.join(t, t.Context())
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return circles
}

// leave has all leave, with these errors, and returns what they are told.
func leave(circles []*Circle, errs map[int]error) []error {
	told := make([]error, len(circles))
	var wait sync.WaitGroup
	for rank, c := range circles {
		if c != nil {
			wait.Go(func() { told[rank] = c.Leave(errs[rank]) })
		}
	}
	wait.Wait()
	return told
}

// wants holds every rank's error against a text.
func wants(t *testing.T, errs []error, text string, ranks ...int) {
	t.Helper()
	for _, rank := range ranks {
		if errs[rank] == nil || !strings.Contains(errs[rank].Error(), text) {
			t.Errorf("rank %d: %v, want %q", rank, errs[rank], text)
		}
	}
}

func TestAllComeAndGo(t *testing.T) {
	circles := trial{size: 4, patience: time.Minute}.mustJoin(t)
	for rank, c := range circles {
		if c.Self.Rank != rank || c.Address != "127.0.0.1" {
			t.Errorf("rank %d is %v at %s", rank, c.Self, c.Address)
		}
	}
	for rank, err := range leave(circles, nil) {
		if err != nil {
			t.Errorf("rank %d: %v", rank, err)
		}
	}
}

// Who is done early waits for the others: it may be taken for the end of all.
func TestLeavingWaitsForRankZero(t *testing.T) {
	circles := trial{size: 2, patience: time.Minute}.mustJoin(t)
	done := make(chan error, 1)
	go func() { done <- circles[1].Leave(nil) }()
	select {
	case err := <-done:
		t.Fatalf("rank 1 has left before rank 0: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if err := circles[0].Leave(nil); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestFailureOfOneIsToldToAll(t *testing.T) {
	for _, who := range []int{0, 2} {
		circles := trial{size: 3, patience: time.Minute}.mustJoin(t)
		failed := make(chan []error, 1)
		go func() {
			others := append([]*Circle(nil), circles...)
			others[who] = nil
			for _, c := range others {
				if c != nil {
					<-c.Lost()
				}
			}
			failed <- leave(others, nil)
		}()
		if err := circles[who].Leave(errors.New("no more memory")); err == nil {
			t.Errorf("rank %d: no error", who)
		}
		told := <-failed
		for rank := range 3 {
			if rank != who {
				wants(t, told, fmt.Sprintf("%v: no more memory", circles[who].Self), rank)
			}
		}
	}
}

func TestDeathIsSeen(t *testing.T) {
	for _, who := range []int{0, 1} {
		circles := trial{size: 3, patience: time.Minute}.mustJoin(t)
		circles[who].mu.Lock()
		circles[who].leaving = true // its own part says nothing more
		circles[who].mu.Unlock()
		for _, p := range circles[who].peers {
			p.conn.Close() // as the kernel does for a process that is killed
		}
		<-circles[2].Lost()
		told := circles[2].Cause(errors.New("connection closed"))
		wants(t, []error{told}, fmt.Sprintf("%v ended without a word", circles[who].Self), 0)
	}
}

func TestSilenceIsSeen(t *testing.T) {
	circles := trial{size: 3, patience: 500 * time.Millisecond}.mustJoin(t)
	close(circles[1].end) // no more signs of life
	<-circles[0].Lost()
	<-circles[2].Lost()
	wants(t, leave([]*Circle{circles[0], nil, circles[2]}, nil), "rank 1 (process", 0, 2)
	wants(t, []error{circles[2].Cause(nil)}, "has not been heard of for 500ms", 0)
}

func TestHangIsSeen(t *testing.T) {
	circles := trial{size: 3, patience: 300 * time.Millisecond}.mustJoin(t)
	circles[0].Summing()
	circles[2].Summing()
	<-circles[2].Lost()
	wants(t, leave(circles, nil), "rank 1 (process", 0, 1, 2)
	wants(t, []error{circles[0].Cause(nil)}, "hangs: the others have waited for it for 300ms", 0)
}

func TestNobodyComes(t *testing.T) {
	_, errs := trial{size: 3, patience: 300 * time.Millisecond, absent: 2}.join(t, t.Context())
	wants(t, errs, "rank 2 of 3 has not come to rank 0 on", 0, 1)
}

func TestOtherWork(t *testing.T) {
	facts := func(rank int) []Fact {
		lr := "0.1"
		if rank == 1 {
			lr = "0.2"
		}
		return []Fact{{"train.batch", "20"}, {"optimizer.lr", lr}}
	}
	_, errs := trial{size: 3, patience: time.Minute, facts: facts}.join(t, t.Context())
	wants(t, errs, "was started with other work than rank 0: optimizer.lr is 0.2, not 0.1", 0, 1, 2)
	wants(t, errs, "rank 1 (process", 0, 1, 2)
}

func TestInterruptedWhileJoining(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	_, errs := trial{size: 3, patience: time.Minute, absent: 2}.join(t, ctx)
	for _, rank := range []int{0, 1} {
		if !errors.Is(errs[rank], context.Canceled) {
			t.Errorf("rank %d: %v", rank, errs[rank])
		}
	}
}

// What is no rank, a scanner of ports say, changes nothing.
func TestStrangers(t *testing.T) {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	if _, err := stranger.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	led := make(chan *Circle, 1)
	go func() {
		c, err := Lead(t.Context(), l, 2, nil, time.Minute)
		if err != nil {
			t.Error(err)
		}
		led <- c
	}()
	c, err := Follow(t.Context(), l.Addr().String(), 1, 2, nil, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range leave([]*Circle{<-led, c}, nil) {
		if err != nil {
			t.Error(err)
		}
	}
}
