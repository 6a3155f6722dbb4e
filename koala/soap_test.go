package koala

import (
	"testing"

	"github.com/koala-lm/koala-lm/koala/spec"
)

func TestSOAP(t *testing.T) { replay{}.run(t, spec.SOAP) }
