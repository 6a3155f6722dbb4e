package torch_test

import (
	"errors"
	"testing"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/internal/memory"
	"github.com/koala-lm/koala-lm/internal/torch"
)

// TestMemoryThatIsNotThere: Linux would grant each allocation without having
// memory for all of them. The test writes nothing to them.
func TestMemoryThatIsNotThere(t *testing.T) {
	free, ok := memory.Free()
	if !ok {
		t.Fatal("the system does not report its free memory")
	}
	err := torch.Main(0, func() error {
		return torch.Do(func(s *torch.Scope) error {
			for range 8 {
				s.Empty([]int64{int64(free) / 4 / 4}, gotch.Float, gotch.CPU)
			}
			return s.Err()
		})
	})
	var short *torch.OutOfMemoryError
	if !errors.As(err, &short) || short.Bytes < free/8 {
		t.Errorf("twice the memory that is free: error %v, want an OutOfMemoryError with the size", err)
	}
}
