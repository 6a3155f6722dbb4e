package request

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEngineEnvironment(t *testing.T) {
	large := "GLIBC_TUNABLES=" + hugePages
	for _, c := range []struct{ own, want []string }{
		{nil, []string{patience, large}},
		{[]string{"HOME=/h"}, []string{"HOME=/h", patience, large}},
		{[]string{"GOMP_SPINCOUNT=7", "HOME=/h"}, []string{"GOMP_SPINCOUNT=7", "HOME=/h", large}},
		{[]string{"OMP_WAIT_POLICY=active"}, []string{"OMP_WAIT_POLICY=active", large}},
		{[]string{"GLIBC_TUNABLES=glibc.malloc.hugetlb=0", "A=b"}, []string{"GLIBC_TUNABLES=glibc.malloc.hugetlb=0", "A=b", patience}},
		{[]string{"GLIBC_TUNABLES=glibc.malloc.arena_max=1"}, []string{"GLIBC_TUNABLES=glibc.malloc.arena_max=1:" + hugePages, patience}},
	} {
		if diff := cmp.Diff(c.want, engineEnvironment(c.own)); diff != "" {
			t.Errorf("%v (-want +got):\n%s", c.own, diff)
		}
	}
}
