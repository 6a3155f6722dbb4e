package torch

// #include <stdlib.h>
// #include "native/koala_native.h"
import "C"

import (
	"fmt"
	"net"
	"runtime"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A KVStore is c10d's TCPStore: a key-value server through which the ranks of a
// process group exchange addresses. One rank serves it, or the program that started
// the ranks.
type KVStore struct {
	handle C.koala_store
	port   int
}

// KVStoreOptions are the address of a KVStore and options of the connection.
type KVStoreOptions struct {
	Host    string
	Port    int           // port to connect to, or to serve at; 0 serves at any free port
	Serve   bool          // serve at Host if that is a loopback address, otherwise at every address
	Prefix  string        // prefix of every key
	Timeout time.Duration // limit for connecting, and for each look-up of a process group
}

// OpenKVStore connects to a KVStore, and serves it first if the options say so. It
// returns ErrGivenUp once stop is closed, since a server of another protocol may
// never answer.
func OpenKVStore(stop <-chan struct{}, o KVStoreOptions) (*KVStore, error) {
	type opened struct {
		store *KVStore
		err   error
	}
	done := make(chan opened)
	go func() { // may outlive this call
		s, err := connectKVStore(o)
		select {
		case done <- opened{s, err}:
		case <-stop:
			if err == nil {
				s.Close()
			}
		}
	}()
	select {
	case out := <-done:
		return out.store, out.err
	case <-stop:
		return nil, ErrGivenUp
	}
}

func connectKVStore(o KVStoreOptions) (*KVStore, error) {
	listener := -1 // -1: c10d itself listens at every address
	if ip := net.ParseIP(o.Host); o.Serve && ip.IsLoopback() {
		fd, port, err := listenAt(ip, o.Port)
		if err != nil {
			return nil, fmt.Errorf("serve the key-value store: %w", err)
		}
		listener, o.Port = fd, port
	}
	s := &KVStore{}
	host, prefix := C.CString(o.Host), C.CString(o.Prefix)
	defer C.free(unsafe.Pointer(host))
	defer C.free(unsafe.Pointer(prefix))
	port, serve := C.int(o.Port), C.int(0)
	if o.Serve {
		serve = 1
	}
	err := inThread(func() C.int {
		return C.koala_store_open(host, &port, serve, C.int(listener), prefix, C.int64_t(o.Timeout.Milliseconds()), &s.handle)
	})
	if err != nil {
		return nil, fmt.Errorf("key-value store at %s: %w", net.JoinHostPort(o.Host, strconv.Itoa(o.Port)), err)
	}
	s.port = int(port)
	return s, nil
}

// listenAt returns a listening socket at an address, which c10d will own, and its
// port.
func listenAt(ip net.IP, port int) (fd, at int, err error) {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: ip, Port: port})
	if err != nil {
		return 0, 0, err
	}
	defer l.Close()
	raw, err := l.SyscallConn()
	if err != nil {
		return 0, 0, err
	}
	var failed error
	err = raw.Control(func(own uintptr) { fd, failed = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) })
	if err == nil {
		err = failed
	}
	_, text, _ := net.SplitHostPort(l.Addr().String())
	at, _ = strconv.Atoi(text)
	return fd, at, err
}

// Port returns the port at which the store is served.
func (s *KVStore) Port() int { return s.port }

// Set sets the value of a key.
func (s *KVStore) Set(key, value string) error {
	k, v := C.CString(key), C.CString(value)
	defer C.free(unsafe.Pointer(k))
	defer C.free(unsafe.Pointer(v))
	if err := inThread(func() C.int { return C.koala_store_set(s.handle, k, v) }); err != nil {
		return fmt.Errorf("key-value store: set %s: %w", key, err)
	}
	return nil
}

// Get returns the value of a key, and whether it has one yet.
func (s *KVStore) Get(key string) (value string, ok bool, err error) {
	k := C.CString(key)
	defer C.free(unsafe.Pointer(k))
	var buffer [256]C.char
	length := C.int(-1)
	err = inThread(func() C.int {
		return C.koala_store_get(s.handle, k, &buffer[0], C.int(len(buffer)), &length)
	})
	if err != nil {
		return "", false, fmt.Errorf("key-value store: get %s: %w", key, err)
	}
	if length < 0 {
		return "", false, nil
	}
	return C.GoStringN(&buffer[0], length), true, nil
}

// Close closes the connection, and the store if this process serves it.
func (s *KVStore) Close() { C.koala_store_close(s.handle) }

// inThread calls this project's C++ and returns its error, which C++ keeps per
// thread.
func inThread(call func() C.int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if call() != 0 {
		return reason(nativeError())
	}
	return nil
}
