package request

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEngineEnvironment(t *testing.T) {
	for _, c := range []struct{ own, want []string }{
		{nil, []string{patience}},
		{[]string{"HOME=/h"}, []string{"HOME=/h", patience}},
		{[]string{"GOMP_SPINCOUNT=7", "HOME=/h"}, []string{"GOMP_SPINCOUNT=7", "HOME=/h"}},
		{[]string{"OMP_WAIT_POLICY=active"}, []string{"OMP_WAIT_POLICY=active"}},
	} {
		if diff := cmp.Diff(c.want, engineEnvironment(c.own)); diff != "" {
			t.Errorf("%v (-want +got):\n%s", c.own, diff)
		}
	}
}
