package torch

import "testing"

// Denormal numbers are zero within Main, and only there.
func TestMainFlushesDenormals(t *testing.T) {
	product := func() (out float32) {
		err := Do(func(s *Scope) error {
			x := s.Scale(FromSlice(s, []float32{1e-30}, 1), 1e-10)
			out = ToSlice[float32](s, s.Scale(x, 1e10))[0]
			return s.Err()
		})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	err := Main(1, func() error {
		if got := product(); got != 0 {
			t.Errorf("within Main 1e-30 * 1e-10 * 1e10 is %g", got)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if product() == 0 {
		t.Error("after Main denormals are still flushed")
	}
}
