package distributed

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// A peer is the other end of a connection.
type peer struct {
	Member
	conn    net.Conn
	reader  *bufio.Reader
	write   sync.Mutex
	reduces int64
	left    bool
}

// A message travels as a frame: its length in 4 bytes, big-endian, and JSON.
type message struct {
	Kind       kind        `json:"kind"`
	Nonce      string      `json:"nonce,omitempty"`
	MAC        []byte      `json:"mac,omitempty"`
	Member     Member      `json:"member,omitzero"`
	WorldSize  int         `json:"world_size,omitempty"`
	Invariants []Invariant `json:"invariants,omitempty"`
	Address    string      `json:"address,omitempty"`
	Hosts      int         `json:"hosts,omitempty"`
	Reduces    int64       `json:"reduces,omitempty"`
	Text       string      `json:"text,omitempty"`
}

type kind string

const (
	challenge kind = "challenge" // rank 0: a nonce for the hello's HMAC
	hello     kind = "hello"     // a follower: who it is, and its invariants
	refusal   kind = "refusal"   // rank 0: why this process cannot join
	welcome   kind = "welcome"   // rank 0: all have joined; the follower's address, and the number of hosts
	heartbeat kind = "heartbeat" // both: alive, and how many all-reduces were reached
	leaving   kind = "leaving"   // a follower: done, or failed with a text
	failure   kind = "failure"   // rank 0: a rank has failed, and why
	finished  kind = "finished"  // rank 0: all ranks are done
)

// maxFrame bounds the bytes that a process reads from an unknown sender. A hello
// with all settings has a few kilobytes.
const maxFrame = 64 << 10

// mac returns the HMAC-SHA256 of a message without its MAC, with the job's key.
func mac(key []byte, h message) ([]byte, error) {
	h.MAC = nil
	text, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	sum := hmac.New(sha256.New, key)
	_, _ = sum.Write(text) // a hash never fails
	return sum.Sum(nil), nil
}

func (p *peer) send(msg message, within time.Duration) error {
	text, err := json.Marshal(msg)
	if err != nil {
		return err
	}
	if len(text) > maxFrame {
		return fmt.Errorf("a message of %d bytes: at most %d are allowed", len(text), maxFrame)
	}
	frame := append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)
	p.write.Lock()
	defer p.write.Unlock()
	if err := p.conn.SetWriteDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	_, err = p.conn.Write(frame)
	return err
}

// read reads one message, of at most maxFrame bytes.
func (p *peer) read() (message, error) { return readMessage(p.reader) }

func readMessage(r io.Reader) (m message, err error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return m, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > maxFrame {
		return m, fmt.Errorf("a frame of %d bytes: at most %d are allowed", n, maxFrame)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(r, text); err != nil {
		return m, err
	}
	return m, json.Unmarshal(text, &m)
}
