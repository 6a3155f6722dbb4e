package koala

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// TestKernelsOfEveryInstructionSet compares the kernels with the published trajectories
// and with the operators under each instruction set that the processor has: the library
// would otherwise use the best one alone.
func TestKernelsOfEveryInstructionSet(t *testing.T) {
	if os.Getenv("KOALA_LM_ISA") != "" {
		t.Skip("KOALA_LM_ISA is set")
	}
	best := torch.ISA()
	for _, set := range []string{"default", "v3", "v4"} {
		t.Run(set, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run", "^(TestOracle|TestFormsAndThreadsAgree|TestTorch|TestKoalaD|TestOrthogonalKernel)$", "-test.v")
			cmd.Env = append(os.Environ(), "KOALA_LM_ISA="+set)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			if ran := strings.Count(string(out), "\n--- PASS"); ran < 5 {
				t.Errorf("only %d tests ran:\n%s", ran, out)
			}
		})
		if set == best {
			break
		}
	}
}
