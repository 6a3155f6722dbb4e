package safetensors

import "fmt"

// A FormatError is the reason why a file is not a safetensors file, or why
// tensors cannot be written as one. Errors of reading and writing have other
// types.
type FormatError struct{ Reason string }

func (e *FormatError) Error() string { return e.Reason }

func formatError(format string, args ...any) error {
	return &FormatError{Reason: fmt.Sprintf(format, args...)}
}
