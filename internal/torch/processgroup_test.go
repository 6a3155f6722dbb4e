package torch

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"
)

// memberVariable makes this test binary one process of a group: rank, size, port.
const memberVariable = "KOALA_LM_TEST_MEMBER"

func TestMain(m *testing.M) {
	if place := os.Getenv(memberVariable); place != "" {
		if err := member(place); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// member joins a group, and prints the bits of a sum whose rounding depends on the
// order of the numbers. If its variable says so, it leaves in the middle.
func member(place string) error {
	var rank, size, port int
	var leaves bool
	if _, err := fmt.Sscan(place, &rank, &size, &port, &leaves); err != nil {
		return err
	}
	store, err := OpenKVStore(nil, KVStoreOptions{Host: "127.0.0.1", Port: port, Timeout: 20 * time.Second})
	if err != nil {
		return err
	}
	g, err := OpenProcessGroup(nil, store, ProcessGroupOptions{Rank: rank, Size: size, Device: gotch.CPU, Address: "127.0.0.1", Timeout: 20 * time.Second})
	if err != nil {
		return err
	}
	if leaves {
		os.Exit(0)
	}
	err = Do(func(s *Scope) error {
		values := make([]float32, 10007)
		for i := range values {
			values[i] = 1 / float32(1+(i+1)*(rank+1)%997)
		}
		small := FromSlice(s, []float64{float64(rank), 1e-300}, 2)
		large := FromSlice(s, values, int64(len(values)))
		if err := g.AllReduce(nil, large, small); err != nil {
			return err
		}
		sums := ToSlice[float64](s, small)
		b := make([]byte, ByteCount(large))
		s.ReadBytes(b, large)
		fmt.Printf("%v %x\n", sums, b)
		return s.Err()
	})
	if err != nil {
		return err
	}
	return memberReduces(g)
}

// memberReduces prints the sums of the gradients of x (first (n+1) + 2 last) in
// two passes; n is the rank. In the first pass backward reaches all parameters. In
// the second, rank 0 does not use the last parameter.
func memberReduces(g *ProcessGroup) error {
	s := NewScope()
	defer s.Close()
	first, last := FromSlice(s, []float32{1, 2, 3}, 3), FromSlice(s, []float32{4, 5, 6}, 3)
	for _, p := range []*ts.Tensor{first, last} {
		s.RequireGrad(p, true)
	}
	if err := s.Err(); err != nil {
		return err
	}
	r, err := g.newReducer([]*ts.Tensor{first, last}, 1, true)
	if err != nil {
		return err
	}
	defer r.Close()
	for pass := range 2 {
		x := s.Scale(first, float64(g.Rank()+1))
		if pass == 0 || g.Rank() > 0 {
			x = s.Add(x, s.Scale(last, 2))
		}
		r.PrepareForBackward()
		s.Backward(s.Sum(x))
		sums, err := r.Finish(nil, []float64{1})
		if err != nil {
			return err
		}
		fmt.Printf("%d started: %v %v %v\n", r.started, gradient(s, last), gradient(s, first), sums)
		s.ClearGrad(first)
		s.ClearGrad(last)
	}
	return s.Err()
}

// gradient is nil for a parameter without one.
func gradient(s *Scope, p *ts.Tensor) []float32 {
	if g := s.Grad(p); g != nil {
		return ToSlice[float32](s, g)
	}
	return nil
}

// members runs the processes of a group and returns each one's output, and whether
// it failed.
func members(t *testing.T, size, leaves int) (said []string, failed []error) {
	t.Helper()
	store, err := OpenKVStore(nil, KVStoreOptions{Host: "127.0.0.1", Serve: true, Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	outputs, errs := make([]strings.Builder, size), make([]strings.Builder, size)
	var commands []*exec.Cmd
	for rank := range size {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d %d %t", memberVariable, rank, size, store.Port(), rank == leaves))
		c.Stdout, c.Stderr = &outputs[rank], &errs[rank]
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		commands = append(commands, c)
	}
	for rank, c := range commands {
		err := c.Wait()
		if err != nil {
			err = errors.New(strings.TrimSpace(errs[rank].String()))
		}
		said, failed = append(said, outputs[rank].String()), append(failed, err)
	}
	return said, failed
}

func TestAllReduce(t *testing.T) {
	for _, size := range []int{1, 2, 3} {
		said, failed := members(t, size, -1)
		want := fmt.Sprintf("[%d %v] ", size*(size-1)/2, float64(size)*1e-300)
		for rank := range size {
			if failed[rank] != nil {
				t.Fatalf("rank %d of %d: %v", rank, size, failed[rank])
			}
			if !strings.HasPrefix(said[rank], want) {
				t.Errorf("rank %d of %d says %.40s, want %s", rank, size, said[rank], want)
			}
			bits, sums, _ := strings.Cut(said[rank], "\n")
			if first, _, _ := strings.Cut(said[0], "\n"); bits != first {
				t.Errorf("rank %d of %d has other bits than rank 0", rank, size)
			}
			// Rank 0's second pass starts no bucket: the first one holds the last
			// parameter, which has no gradient at all in a group of one.
			first, last, started := size*(size+1)/2, 2*size, 2
			want := fmt.Sprintf("2 started: [%d %[1]d %[1]d] [%d %[2]d %[2]d] [%d]\n", last, first, size)
			if rank == 0 {
				started = 0
			}
			second := fmt.Sprintf("[%d %[1]d %[1]d]", last-2)
			if size == 1 {
				second = "[]"
			}
			want += fmt.Sprintf("%d started: %s [%d %[3]d %[3]d] [%d]\n", started, second, first, size)
			if sums != want {
				t.Errorf("rank %d of %d reduced:\n%swant:\n%s", rank, size, sums, want)
			}
		}
	}
}

func TestProcessThatLeavesIsNoticed(t *testing.T) {
	_, failed := members(t, 3, 1)
	for _, rank := range []int{0, 2} {
		if failed[rank] == nil || !strings.Contains(failed[rank].Error(), "all-reduce") {
			t.Errorf("rank %d: %v", rank, failed[rank])
		}
	}
}

func TestOpenProcessGroupGivesUp(t *testing.T) {
	store, err := OpenKVStore(nil, KVStoreOptions{Host: "127.0.0.1", Serve: true, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	close(stop)
	if _, err := OpenProcessGroup(stop, store, ProcessGroupOptions{Size: 2, Device: gotch.CPU, Timeout: time.Minute}); !errors.Is(err, ErrGivenUp) {
		t.Errorf("got %v", err)
	}
}

func TestKVStore(t *testing.T) {
	store, err := OpenKVStore(nil, KVStoreOptions{Host: "127.0.0.1", Serve: true, Prefix: "a/", Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if v, ok, err := store.Get("key"); ok || err != nil {
		t.Errorf("an unknown key is %q, %v", v, err)
	}
	if err := store.Set("key", "value"); err != nil {
		t.Fatal(err)
	}
	other, err := OpenKVStore(nil, KVStoreOptions{Host: "127.0.0.1", Port: store.Port(), Prefix: "a/", Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if v, ok, err := other.Get("key"); v != "value" || !ok || err != nil {
		t.Errorf("got %q, %t, %v", v, ok, err)
	}
	// The port is taken.
	if _, err := OpenKVStore(nil, KVStoreOptions{Host: "127.0.0.1", Port: store.Port(), Serve: true, Timeout: time.Second}); err == nil ||
		!strings.Contains(err.Error(), strconv.Itoa(store.Port())) {
		t.Errorf("served a second time: %v", err)
	}
}

// TestKVStoreGivesUp: the server at the port never answers.
func TestKVStoreGivesUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	stop := make(chan struct{})
	time.AfterFunc(50*time.Millisecond, func() { close(stop) })
	o := KVStoreOptions{Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port, Timeout: time.Minute}
	if _, err := OpenKVStore(stop, o); !errors.Is(err, ErrGivenUp) {
		t.Errorf("got %v", err)
	}
}
