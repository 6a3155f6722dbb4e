package request

import (
	"slices"
	"strings"
)

// patience is how many times a thread of the engine looks for work before it
// sleeps. OpenMP's default is 300,000. With one other busy program on two cores, a
// waiting thread then occupies the core that the thread it waits for needs, and a
// step takes 4 to 20 times as long. A small GPT's step takes 17 ms with 20,000, and
// 47 ms beside such a program; with 5,000 it takes 19 and 35 ms.
const patience = "GOMP_SPINCOUNT=20000"

// hugePages makes glibc ask the kernel for pages of 2 MB where it would give 4 KB
// unasked (transparent_hugepage/enabled is madvise, as Ubuntu and Fedora have it).
// Large matrices spread over more small pages than the processor keeps addresses of:
// the loss of an LSTM of 2 x 650 with 33,278 words takes 1.75 s a step with small
// pages, 1.39 s with large ones. glibc reads it when the program starts.
const hugePages = "glibc.malloc.hugetlb=1"

// engineEnvironment derives the engine's environment from this process's. It keeps
// the user's settings of OpenMP's waiting and of glibc.
func engineEnvironment(own []string) []string {
	env, waits, tunables := slices.Clone(own), false, -1
	for i, v := range env {
		waits = waits || strings.HasPrefix(v, "GOMP_SPINCOUNT=") || strings.HasPrefix(v, "OMP_WAIT_POLICY=")
		if strings.HasPrefix(v, "GLIBC_TUNABLES=") {
			tunables = i
		}
	}
	if !waits {
		env = append(env, patience)
	}
	switch {
	case tunables < 0:
		env = append(env, "GLIBC_TUNABLES="+hugePages)
	case !strings.Contains(env[tunables], "glibc.malloc.hugetlb="):
		env[tunables] += ":" + hugePages
	}
	return env
}
