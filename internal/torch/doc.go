// Package torch is the only access to libtorch. It gives gotch's tensors and operators
// well-defined lifetimes, errors, random seeds, threads, memory and devices.
//
// Its subjects are one or a few files each: tensors (scope, tensor, ops, grad, bytes,
// errors), layers (layers), optimizer passes (optim), process groups (store, group, bucket,
// watch), and the process and its devices (runtime, memory, precision, device). This
// project's C++ is in native/ and next to the packages that use it.
//
// # Scopes
//
// libtorch's memory is not Go's, and gotch leaves freeing it to the caller. A [Scope] owns
// every tensor made through it and frees them all when it ends, on every path. It keeps the
// first error, with the operator and its input shapes, and turns later calls into no-ops,
// as bufio.Writer does. So a forward pass reads like its formula and needs one check:
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
// The package needs libtorch and a changed copy of gotch. `make setup` prepares both, and
// writes their paths into link_generated.go and go.work. internal/setup lists the changes
// to gotch with their reasons; this package has a test for each.
package torch
