package koala

import (
	"testing"

	"github.com/koala-lm/koala-lm/koala/spec"
)

func TestAdagrad(t *testing.T) { replay{}.run(t, spec.Adagrad) }
