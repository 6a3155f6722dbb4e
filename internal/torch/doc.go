// Package torch is the one door to libtorch: gotch's tensors and operators with
// their lifetimes, errors, random seeds, threads, memory and devices in order.
//
// # Scopes
//
// libtorch's memory is not Go's, and gotch leaves freeing it to the caller. A
// [Scope] owns every tensor made through it and frees them all when it ends, on
// every path. It keeps the first error, with the operator and the shapes that
// went in, and turns what follows into no-ops, as bufio.Writer does. So a
// forward pass reads like its formula and is checked once:
//
//	err := torch.Do(func(s *torch.Scope) error {
//		h := s.Tanh(s.Linear(x, w, b))
//		loss := s.Mean(s.Square(s.Sub(h, y)))
//		s.Backward(loss)
//		return s.Err()
//	})
//
// # Threads
//
// libtorch keeps the gradient mode and gotch the last error per operating system
// thread: code that calls either runs inside [Do] or [Main], which hold the
// goroutine on its thread.
//
// # Set-up
//
// The package needs libtorch and a mended copy of gotch; `make setup` prepares
// both, and link_generated.go and go.work point at them. internal/setup lists
// what is changed in gotch and why; this package's tests fail without each.
package torch
