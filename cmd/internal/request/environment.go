package request

import "strings"

// patience is how many times a thread of the engine looks for work before it
// sleeps. OpenMP's own choice is 300,000: with one other busy program on two cores
// the threads then wait for each other by taking the core away from whom they wait
// for, and a step takes 4 to 20 times as long. A small GPT's step takes 17 ms with
// 20,000 and 47 beside such a program, with 5,000 it is 19 and 35.
const patience = "GOMP_SPINCOUNT=20000"

// engineEnvironment is the engine's environment, of this process's. What the user
// says about OpenMP's waiting stands.
func engineEnvironment(own []string) []string {
	for _, v := range own {
		if strings.HasPrefix(v, "GOMP_SPINCOUNT=") || strings.HasPrefix(v, "OMP_WAIT_POLICY=") {
			return own
		}
	}
	return append(own[:len(own):len(own)], patience)
}
