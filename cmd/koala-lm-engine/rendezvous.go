package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/koala-lm/koala-lm/internal/ranks"
	"github.com/koala-lm/koala-lm/internal/torch"
)

// How ranks find one another: each opens c10d's store, in which rank 0 tells at
// which port its circle meets. Where the store is says the environment, or a
// rendezvous file that rank 0 writes.

// circleKey is where in the store rank 0 tells at which port its circle meets.
const circleKey = "koala-lm/circle"

func (t *team) openStore(ctx context.Context, serve bool) (err error) {
	p := t.place
	t.store, err = torch.OpenKVStore(ctx.Done(), torch.KVStoreOptions{Host: p.Host, Port: p.Port, Serve: serve, Prefix: p.Prefix, Timeout: t.timeout})
	if errors.Is(err, torch.ErrGivenUp) {
		return context.Cause(ctx)
	}
	return err
}

// lead makes rank 0's circle, and tells the others where it meets.
func (t *team) lead(ctx context.Context, facts []ranks.Fact) error {
	at := &net.TCPAddr{}
	if t.local != nil {
		at.IP, ctx = net.IPv4(127, 0, 0, 1), t.local.whole
	}
	l, err := net.ListenTCP("tcp", at)
	if err != nil {
		return fmt.Errorf("listen for the other ranks: %w", err)
	}
	defer l.Close()
	if err := t.store.Set(circleKey, strconv.Itoa(l.Addr().(*net.TCPAddr).Port)); err != nil {
		return err
	}
	if t.place.File != "" {
		if err := t.announce(ctx); err != nil {
			return err
		}
		defer t.meeting.Withdraw(t.place.File)
	}
	t.circle, err = ranks.Lead(ctx, l, t.place.Size, facts, t.timeout)
	return err
}

// announce writes the rendezvous file. One that is there was left behind, unless
// its rank 0 still waits for others.
func (t *team) announce(ctx context.Context) error {
	file := t.place.File
	before, err := ranks.ReadMeeting(file)
	if err != nil && !errors.Is(err, ranks.ErrNoMeeting) {
		return err
	}
	if store, host := enter(ctx, before, t.timeout); store != nil {
		store.Close()
		return fmt.Errorf("%s is another run's, whose rank 0 is on %s: give each run a file of its own", file, host)
	}
	t.meeting.Port = t.place.Port
	return t.meeting.Announce(file)
}

// follow waits for rank 0's circle and joins it.
func (t *team) follow(ctx context.Context, facts []ranks.Fact) error {
	waited := fmt.Errorf("rank %d has waited for rank 0 for %v", t.place.Rank, t.timeout)
	patient, cancel := context.WithTimeoutCause(ctx, t.timeout, waited)
	defer cancel()
	find := t.findByEnvironment
	if t.place.File != "" {
		find = t.findByFile
	}
	if err := again(patient, find); err != nil {
		return err
	}
	var port string
	err := again(patient, func(context.Context) (err error) {
		found := false
		if port, found, err = t.store.Get(circleKey); err == nil && !found {
			err = notYet{fmt.Errorf("rank 0 on %s is not ready", t.place.Host)}
		}
		return err
	})
	if err != nil {
		return err
	}
	t.circle, err = ranks.Follow(ctx, net.JoinHostPort(t.place.Host, port), t.place.Rank, t.place.Size, facts, t.timeout)
	return err
}

// findByEnvironment opens the store that the environment says.
func (t *team) findByEnvironment(ctx context.Context) error {
	address := net.JoinHostPort(t.place.Host, strconv.Itoa(t.place.Port))
	silent := notYet{fmt.Errorf("no answer from %s (MASTER_ADDR and MASTER_PORT, where rank 0 is)", address)}
	if !answers(ctx, address) {
		return silent
	}
	err := t.openStore(ctx, false)
	if ctx.Err() != nil {
		return silent
	}
	return err
}

// findByFile opens the store that the rendezvous file says. A file that an earlier
// run left says nothing that is still true.
func (t *team) findByFile(ctx context.Context) error {
	file := t.place.File
	m, err := ranks.ReadMeeting(file)
	if errors.Is(err, ranks.ErrNoMeeting) {
		return notYet{fmt.Errorf("no rank 0 has come to %s", file)}
	}
	if err != nil {
		return err
	}
	if t.store, t.place.Host = enter(ctx, m, t.timeout); t.store != nil {
		return nil
	}
	return notYet{fmt.Errorf("no answer from %s port %d, where rank 0 is by %s", strings.Join(m.Hosts, ", "), m.Port, file)}
}

// soon is when a store that is there has answered.
const soon = 5 * time.Second

// enter opens a meeting's store and says on which of its hosts it found it. By now
// the port may be somebody else's: a store that does not know of the meeting, or
// no store and nothing that would answer.
func enter(ctx context.Context, m ranks.Meeting, timeout time.Duration) (*torch.KVStore, string) {
	for _, host := range m.Hosts {
		if !answers(ctx, net.JoinHostPort(host, strconv.Itoa(m.Port))) {
			continue
		}
		within, cancel := context.WithTimeout(ctx, soon)
		store, err := torch.OpenKVStore(within.Done(), torch.KVStoreOptions{Host: host, Port: m.Port, Prefix: m.ID, Timeout: timeout})
		cancel()
		if err != nil {
			continue
		}
		if _, found, err := store.Get(circleKey); err == nil && found {
			return store, host
		}
		store.Close()
	}
	return nil, ""
}

// answers says whether something listens at an address: c10d would not say that
// nothing does, but go on trying.
func answers(ctx context.Context, address string) bool {
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// notYet is an error that time may mend.
type notYet struct{ error }

// again tries until it succeeds or fails for good, with pauses.
func again(ctx context.Context, try func(context.Context) error) error {
	for {
		err := try(ctx)
		if !errors.As(err, &notYet{}) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", err, context.Cause(ctx))
		case <-time.After(100 * time.Millisecond):
		}
	}
}
