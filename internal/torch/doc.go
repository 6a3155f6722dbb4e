// Package torch is the only access to libtorch. It gives gotch's tensors and operators
// well-defined lifetimes, errors, random seeds, threads, memory and devices.
//
// Its subjects are one or a few files each: tensors (scope, tensor, ops, grad, bytes,
// errors), layers (layers), optimizer passes (optim), process groups (store, group, bucket,
// watch), and the process and its devices (runtime, memory, precision, device). C++ of this
// project lies in native/ and beside the packages that use it.
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
// both, and link_generated.go and go.work point at them. internal/setup lists the changes
// to gotch with their reasons; this package has a test for each.
package torch
