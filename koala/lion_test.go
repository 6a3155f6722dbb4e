package koala

import (
	"testing"

	"github.com/koala-lm/koala-lm/koala/spec"
)

func TestLion(t *testing.T) { replay{}.run(t, spec.Lion) }
