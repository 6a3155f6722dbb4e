package safetensors

import "fmt"

// A FormatError says why something is not a safetensors file, or cannot become
// one. Failures of reading and writing are not of this type.
type FormatError struct{ Reason string }

func (e *FormatError) Error() string { return e.Reason }

func formatError(format string, args ...any) error {
	return &FormatError{Reason: fmt.Sprintf(format, args...)}
}
