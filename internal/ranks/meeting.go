package ranks

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"syscall"

	"github.com/koala-lm/koala-lm/internal/atomicfile"
)

// A Meeting is the content of a rendezvous file: where rank 0 serves c10d's store,
// at a port that the system has chosen. The file is there from when rank 0 is ready
// for the others until all have come.
//
// c10d has a store that is a file itself. A record in it that a kill or a full disk
// cut short keeps all who open it reading for ever (libtorch 2.11), and it needs
// locks that not every shared file system has.
type Meeting struct {
	ID    string   `json:"id"`    // no other meeting has it; the prefix of keys in the store
	Hosts []string `json:"hosts"` // names and addresses of rank 0's host, of which one should do
	Port  int      `json:"port"`
}

// ErrNoMeeting says that there is no rendezvous file yet, or an empty one.
var ErrNoMeeting = errors.New("nobody has come there yet")

// NewMeeting makes one on this host, which the others know under the name given,
// if there is one, or else by its own name or one of its addresses.
func NewMeeting(host string) Meeting {
	m := Meeting{ID: rand.Text(), Hosts: ownNames()}
	if host != "" {
		m.Hosts = append([]string{host}, m.Hosts...)
	}
	return m
}

func ownNames() []string {
	var names, addresses []string
	if name, err := os.Hostname(); err == nil {
		names = append(names, name)
	}
	all, _ := net.InterfaceAddrs() // the name may be enough
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			addresses = append(addresses, n.IP.String())
		}
	}
	if addresses == nil {
		addresses = []string{"127.0.0.1"}
	}
	return append(names, addresses...)
}

// largestMeeting is far more than a host with many addresses needs.
const largestMeeting = 64 << 10

// ReadMeeting reads a rendezvous file.
func ReadMeeting(file string) (Meeting, error) {
	var m Meeting
	content, err := readRegular(file)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ESTALE): // NFS: replaced meanwhile
		return m, ErrNoMeeting
	case err != nil:
		return m, fmt.Errorf("rendezvous file: %w", err)
	case len(content) == 0:
		return m, ErrNoMeeting
	}
	d := json.NewDecoder(bytes.NewReader(content))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil || m.ID == "" || len(m.Hosts) == 0 || d.More() {
		return m, foreign(file)
	}
	return m, nil
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
	return io.ReadAll(io.LimitReader(f, largestMeeting))
}

func foreign(file string) error {
	return fmt.Errorf("%s is something else than a rendezvous file: name one that is not there yet", file)
}

// Announce writes the rendezvous file, in place of one that an earlier meeting
// left.
func (m Meeting) Announce(file string) error {
	err := atomicfile.Write(file, func(w io.Writer) error { return json.NewEncoder(w).Encode(m) })
	if err != nil {
		return fmt.Errorf("rendezvous file: %w", err)
	}
	return nil
}

// Withdraw removes the rendezvous file if it is still of this meeting. Where it
// cannot be removed, the next meeting takes its place once this run has ended.
func (m Meeting) Withdraw(file string) {
	if now, err := ReadMeeting(file); err == nil && now.ID == m.ID {
		_ = os.Remove(file)
	}
}
