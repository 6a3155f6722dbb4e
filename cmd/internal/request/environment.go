package request

import "strings"

// patience is how many times a thread of the engine looks for work before it
// sleeps. OpenMP's default is 300,000. With one other busy program on two cores, a
// waiting thread then occupies the core that the thread it waits for needs, and a
// step takes 4 to 20 times as long. A small GPT's step takes 17 ms with 20,000, and
// 47 ms beside such a program; with 5,000 it takes 19 and 35 ms.
const patience = "GOMP_SPINCOUNT=20000"

// engineEnvironment derives the engine's environment from this process's. It keeps
// the user's settings of OpenMP's waiting.
func engineEnvironment(own []string) []string {
	for _, v := range own {
		if strings.HasPrefix(v, "GOMP_SPINCOUNT=") || strings.HasPrefix(v, "OMP_WAIT_POLICY=") {
			return own
		}
	}
	return append(own[:len(own):len(own)], patience)
}
