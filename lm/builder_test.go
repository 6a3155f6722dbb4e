package lm_test

import (
	"errors"
	"testing"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/lm"
)

// A model that memory cannot hold fails before any weight is drawn: filling the ones
// that fit could take minutes.
func TestBuildTakesMemoryFirst(t *testing.T) {
	drawn := 0
	init := func(*torch.Scope, *ts.Tensor) { drawn++ }
	_, err := lm.Build(1, gotch.CPU, func(p lm.Builder) {
		p.Matrix("fits", init, 2, 3)
		p.Matrix("does not", init, 1<<25, 1<<25)
	})
	var memory *torch.OutOfMemoryError
	if !errors.As(err, &memory) || drawn > 0 {
		t.Errorf("%d weights are drawn, and the error is %v", drawn, err)
	}
}
