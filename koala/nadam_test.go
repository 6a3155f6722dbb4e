package koala

import (
	"testing"

	"github.com/koala-lm/koala-lm/koala/spec"
)

func TestNAdam(t *testing.T) { replay{}.run(t, spec.NAdam) }
