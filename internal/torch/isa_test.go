package torch_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// kernelTests compare our kernels' numbers with libtorch's operators, float64 or the
// formula.
const kernelTests = "Agree|OfAnyNumber|Errors$|Edges|Branch|OtherTypes|TestCrossEntropy|BFloat16"

// rerun runs the kernel tests in a new process with an environment variable, which native
// code reads when it is loaded.
func rerun(t *testing.T, variable string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run", kernelTests, "-test.v")
	cmd.Env = append(os.Environ(), variable)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", variable, err, out)
	}
	if ran := strings.Count(string(out), "\n--- PASS"); ran < 10 {
		t.Errorf("%s: only %d tests ran:\n%s", variable, ran, out)
	}
}

// TestKernelsOfEveryInstructionSet runs the kernel tests with each of the processor's
// instruction sets: by default the library uses only the best one.
func TestKernelsOfEveryInstructionSet(t *testing.T) {
	if os.Getenv("KOALA_LM_ISA") != "" {
		t.Skip("KOALA_LM_ISA is set")
	}
	best := torch.ISA()
	for _, set := range []string{"default", "v3", "v4"} {
		t.Run(set, func(t *testing.T) {
			rerun(t, "KOALA_LM_ISA="+set)
		})
		if set == best {
			break
		}
	}
}

// TestKernelsWithoutBLAS: if libtorch does not export its BLAS, its operators compute the
// products.
func TestKernelsWithoutBLAS(t *testing.T) { rerun(t, "KOALA_LM_BLAS=operators") }

// TestProductsOfEveryVendor: MKL's products have the processor's instruction set, also on
// processors for which MKL itself chooses the smallest.
func TestProductsOfEveryVendor(t *testing.T) {
	if os.Getenv("KOALA_LM_ISA") != "" || os.Getenv("KOALA_LM_MKL") != "" {
		t.Skip("the environment chooses")
	}
	if torch.MKLISA() == "" {
		t.Skip("libtorch has no MKL")
	}
	if torch.MKLISA() != torch.ISA() {
		t.Errorf("MKL uses %s, the processor has %s", torch.MKLISA(), torch.ISA())
	}
}

// TestInstructionSetMustExist: the error names the sets that the processor has.
func TestInstructionSetMustExist(t *testing.T) {
	if os.Getenv("KOALA_LM_ISA") == "v9" {
		if err := torch.Main(1, func() error { return nil }); err != nil {
			t.Fatal(err)
		}
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestInstructionSetMustExist$")
	cmd.Env = append(os.Environ(), "KOALA_LM_ISA=v9")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "KOALA_LM_ISA=v9: this processor runs ") || !strings.Contains(string(out), "default") {
		t.Errorf("error %v, output %s", err, out)
	}
}
