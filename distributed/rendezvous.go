package distributed

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/koala-lm/koala-lm/internal/atomicfile"
	"github.com/koala-lm/koala-lm/internal/torch"
)

// How ranks find one another: each opens c10d's store, where rank 0 publishes the
// port of its membership and a token. The store's address is in the environment, or
// in a rendezvous file that rank 0 writes.

// membershipKey is the store's key of "PORT TOKEN": the port at which rank 0 accepts
// the other ranks, and the random half of the key of their hellos. A process that
// has not read the store cannot join.
const membershipKey = "koala-lm/membership"

func (g *ProcessGroup) openStore(ctx context.Context, serve bool) (err error) {
	r := g.rank
	g.store, err = torch.OpenKVStore(ctx.Done(), torch.KVStoreOptions{
		Host: r.MasterAddr, Port: r.MasterPort, Serve: serve, Prefix: r.Prefix, Timeout: g.timeout,
	})
	if errors.Is(err, torch.ErrGivenUp) {
		return context.Cause(ctx)
	}
	return err
}

// lead publishes rank 0's membership and waits for the other ranks.
func (g *ProcessGroup) lead(ctx context.Context, invariants []Invariant) error {
	at := &net.TCPAddr{}
	if ip := net.ParseIP(g.rank.MasterAddr); ip.IsLoopback() {
		at.IP = ip
	}
	if g.children != nil {
		ctx = g.children.alive
	}
	l, err := net.ListenTCP("tcp", at)
	if err != nil {
		return fmt.Errorf("listen for the other ranks: %w", err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return fmt.Errorf("listen for the other ranks: %w", err)
	}
	token := rand.Text()
	if err := g.store.Set(membershipKey, port+" "+token); err != nil {
		return err
	}
	if g.rank.RendezvousFile != "" {
		if err := g.publishFile(ctx); err != nil {
			return err
		}
		defer g.file.Remove(g.rank.RendezvousFile)
	}
	g.membership, err = Lead(ctx, l, g.rank.WorldSize, g.key(token), invariants, g.timeout)
	return err
}

// key is the key of the hellos' HMAC.
func (g *ProcessGroup) key(token string) string { return token + "\x00" + g.secret }

// publishFile writes the rendezvous file, and replaces the file of an earlier run.
func (g *ProcessGroup) publishFile(ctx context.Context) error {
	file := g.rank.RendezvousFile
	before, err := ReadRendezvous(file)
	if err != nil && !errors.Is(err, ErrNoRendezvous) {
		return err
	}
	if store, host := openPublished(ctx, before, g.timeout); store != nil {
		store.Close()
		return fmt.Errorf("%s belongs to another run, whose rank 0 is on %s: give each run its own file", file, host)
	}
	g.file.Port = g.rank.MasterPort
	return g.file.Publish(file)
}

// follow waits for rank 0 to publish its membership and joins it.
func (g *ProcessGroup) follow(ctx context.Context, invariants []Invariant) error {
	waited := fmt.Errorf("rank %d waited %v for rank 0", g.rank.Rank, g.timeout)
	patient, cancel := context.WithTimeoutCause(ctx, g.timeout, waited)
	defer cancel()
	find := g.findByEnvironment
	if g.rank.RendezvousFile != "" {
		find = g.findByFile
	}
	if err := retry(patient, find, g.waiting); err != nil {
		return err
	}
	var port, token string
	err := retry(patient, func(context.Context) error {
		published, found, err := g.store.Get(membershipKey)
		if err == nil && !found {
			err = notYet{fmt.Errorf("rank 0 on %s is not ready", g.rank.MasterAddr)}
		}
		port, token, _ = strings.Cut(published, " ")
		return err
	}, nil)
	if err != nil {
		return err
	}
	dialer := net.Dialer{Timeout: g.timeout}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(g.rank.MasterAddr, port))
	if err != nil {
		return fmt.Errorf("rank %d cannot reach rank 0: %w", g.rank.Rank, err)
	}
	g.membership, err = Follow(ctx, conn, g.rank.Rank, g.rank.WorldSize, g.key(token), invariants, g.timeout)
	return err
}

// findByEnvironment opens the store at MASTER_ADDR and MASTER_PORT.
func (g *ProcessGroup) findByEnvironment(ctx context.Context) error {
	address := net.JoinHostPort(g.rank.MasterAddr, strconv.Itoa(g.rank.MasterPort))
	silent := notYet{fmt.Errorf("no answer from rank 0 at %s (MASTER_ADDR and MASTER_PORT)", address)}
	if !answers(ctx, address) {
		return silent
	}
	err := g.openStore(ctx, false)
	if ctx.Err() != nil {
		return silent
	}
	return err
}

// findByFile opens the store that the rendezvous file names. The file of an earlier
// run names a store that does not answer.
func (g *ProcessGroup) findByFile(ctx context.Context) error {
	file := g.rank.RendezvousFile
	r, err := ReadRendezvous(file)
	if errors.Is(err, ErrNoRendezvous) {
		return notYet{fmt.Errorf("rank 0 has not written %s", file)}
	}
	if err != nil {
		return err
	}
	if g.store, g.rank.MasterAddr = openPublished(ctx, r, g.timeout); g.store != nil {
		return nil
	}
	return notYet{fmt.Errorf("cannot reach rank 0 at %s, port %d (from %s)", strings.Join(r.Hosts, ", "), r.Port, file)}
}

// probeTimeout bounds the wait for a store's answer.
const probeTimeout = 5 * time.Second

// openPublished opens the store of a rendezvous and returns it with its host, nil if
// it is gone. The port may now belong to another program: the store of another run,
// or a server that never answers.
func openPublished(ctx context.Context, r Rendezvous, timeout time.Duration) (*torch.KVStore, string) {
	for _, host := range r.Hosts {
		if !answers(ctx, net.JoinHostPort(host, strconv.Itoa(r.Port))) {
			continue
		}
		within, cancel := context.WithTimeout(ctx, probeTimeout)
		store, err := torch.OpenKVStore(within.Done(), torch.KVStoreOptions{Host: host, Port: r.Port, Prefix: r.ID, Timeout: timeout})
		cancel()
		if err != nil {
			continue
		}
		if _, found, err := store.Get(membershipKey); err == nil && found {
			return store, host
		}
		store.Close()
	}
	return nil, ""
}

// answers reports whether something listens at an address. c10d itself would retry
// if nothing does.
func answers(ctx context.Context, address string) bool {
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// notYet is an error that a later attempt may not have.
type notYet struct{ error }

// retryInterval is the pause between two attempts to find rank 0.
const retryInterval = 100 * time.Millisecond

// retry repeats try until it succeeds or fails with another error than notYet. The
// first failure is passed to waiting, unless that is nil.
func retry(ctx context.Context, try func(context.Context) error, waiting func(error)) error {
	for first := true; ; first = false {
		err := try(ctx)
		if !errors.As(err, &notYet{}) {
			return err
		}
		if first && waiting != nil {
			waiting(err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", err, context.Cause(ctx))
		case <-time.After(retryInterval):
		}
	}
}

// A Rendezvous is the content of a rendezvous file: the address at which rank 0
// serves c10d's store, with a port that the system has chosen. Rank 0 writes the
// file when it is ready, and removes it when all ranks have joined.
//
// c10d also has a store that is a file. But if a kill or a full disk truncates a
// record in it, all ranks read for ever (libtorch 2.11), and it needs locks that not
// every shared file system has.
type Rendezvous struct {
	ID    string   `json:"id"`    // unique; the prefix of keys in the store
	Hosts []string `json:"hosts"` // names and addresses of rank 0's host; one of them should work
	Port  int      `json:"port"`
}

// ErrNoRendezvous is the error for a rendezvous file that does not exist yet or is
// empty.
var ErrNoRendezvous = errors.New("no rank 0 has written a rendezvous file")

// NewRendezvous makes a rendezvous on this host. host is its name for the other
// ranks; "" gives them the host's own name and its addresses.
func NewRendezvous(host string) Rendezvous {
	r := Rendezvous{ID: rand.Text(), Hosts: ownNames()}
	if host != "" {
		r.Hosts = append([]string{host}, r.Hosts...)
	}
	return r
}

func ownNames() []string {
	var names, addresses []string
	if name, err := os.Hostname(); err == nil {
		names = append(names, name)
	}
	all, _ := net.InterfaceAddrs() // the name may be enough
	for _, a := range all {
		if ip, _, err := net.ParseCIDR(a.String()); err == nil && ip.IsGlobalUnicast() {
			addresses = append(addresses, ip.String())
		}
	}
	if addresses == nil {
		addresses = []string{"127.0.0.1"}
	}
	return append(names, addresses...)
}

// maxRendezvous is far more than a host with many addresses needs.
const maxRendezvous = 64 << 10

// ReadRendezvous reads a rendezvous file.
func ReadRendezvous(file string) (Rendezvous, error) {
	var r Rendezvous
	content, err := readRegular(file)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ESTALE): // NFS: replaced meanwhile
		return r, ErrNoRendezvous
	case err != nil:
		return r, fmt.Errorf("rendezvous file: %w", err)
	case len(content) == 0:
		return r, ErrNoRendezvous
	}
	if r, err = parseRendezvous(content); err != nil {
		return r, foreign(file)
	}
	return r, nil
}

func parseRendezvous(content []byte) (r Rendezvous, err error) {
	d := json.NewDecoder(bytes.NewReader(content))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return Rendezvous{}, err
	}
	if r.ID == "" || len(r.Hosts) == 0 || d.More() {
		return Rendezvous{}, errors.New("an id, hosts and a port are expected, and nothing else")
	}
	return r, nil
}

func readRegular(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, foreign(file)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxRendezvous))
}

func foreign(file string) error {
	return fmt.Errorf("%s is not a rendezvous file: name a file that does not exist yet", file)
}

// Publish writes the rendezvous file, and replaces the file of an earlier run.
func (r Rendezvous) Publish(file string) error {
	err := atomicfile.Write(file, func(w io.Writer) error { return json.NewEncoder(w).Encode(r) })
	if err != nil {
		return fmt.Errorf("rendezvous file: %w", err)
	}
	return nil
}

// Remove removes the rendezvous file if it still belongs to this rendezvous. The
// next run replaces a file that cannot be removed.
func (r Rendezvous) Remove(file string) {
	if now, err := ReadRendezvous(file); err == nil && now.ID == r.ID {
		_ = os.Remove(file)
	}
}
