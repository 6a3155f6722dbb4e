package torch

// #include <stdlib.h>
// #include "native/koala_native.h"
import "C"

import (
	"fmt"
	"runtime"
	"time"
	"unsafe"
)

// A Store is where processes find one another: c10d's TCPStore, which one of them
// serves, or the program that started them.
type Store struct {
	handle C.koala_store
	port   int
}

// StoreOptions say where a store is.
type StoreOptions struct {
	Host    string
	Port    int // of a store that is served here: 0 for one that is free
	Serve   bool
	Prefix  string        // of all keys
	Timeout time.Duration // for connecting, and for what a group looks up
}

// OpenStore serves a store and connects to it, or only connects. It gives up when
// stop is closed: a server that is none of c10d's may leave it without an answer.
func OpenStore(stop <-chan struct{}, o StoreOptions) (*Store, error) {
	type opened struct {
		store *Store
		err   error
	}
	done := make(chan opened)
	go func() { // which outlives a call that gives up
		s, err := connect(o)
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

func connect(o StoreOptions) (*Store, error) {
	s := &Store{}
	host, prefix := C.CString(o.Host), C.CString(o.Prefix)
	defer C.free(unsafe.Pointer(host))
	defer C.free(unsafe.Pointer(prefix))
	port, serve := C.int(o.Port), C.int(0)
	if o.Serve {
		serve = 1
	}
	err := inThread(func() C.int {
		return C.koala_store_open(host, &port, serve, prefix, C.int64_t(o.Timeout.Milliseconds()), &s.handle)
	})
	if err != nil {
		return nil, fmt.Errorf("store at %s port %d: %w", o.Host, o.Port, err)
	}
	s.port = int(port)
	return s, nil
}

// Port is the one that the store is served at.
func (s *Store) Port() int { return s.port }

// Set gives a key its value.
func (s *Store) Set(key, value string) error {
	k, v := C.CString(key), C.CString(value)
	defer C.free(unsafe.Pointer(k))
	defer C.free(unsafe.Pointer(v))
	if err := inThread(func() C.int { return C.koala_store_set(s.handle, k, v) }); err != nil {
		return fmt.Errorf("store: set %s: %w", key, err)
	}
	return nil
}

// Get returns the value of a key, if it has one by now.
func (s *Store) Get(key string) (value string, ok bool, err error) {
	k := C.CString(key)
	defer C.free(unsafe.Pointer(k))
	var buffer [256]C.char
	length := C.int(-1)
	err = inThread(func() C.int {
		return C.koala_store_get(s.handle, k, &buffer[0], C.int(len(buffer)), &length)
	})
	if err != nil {
		return "", false, fmt.Errorf("store: get %s: %w", key, err)
	}
	if length < 0 {
		return "", false, nil
	}
	return C.GoStringN(&buffer[0], length), true, nil
}

// Close closes the connection, and the store if it is served here.
func (s *Store) Close() { C.koala_store_close(s.handle) }

// inThread makes a call of this project's own C++ and reads its error, which
// belongs to the thread.
func inThread(call func() C.int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if call() != 0 {
		return reason(nativeError())
	}
	return nil
}
