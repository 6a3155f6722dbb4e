package endtoend

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// program is koala-lm in a folder of its own, on a device.
type program struct {
	t      *testing.T
	dir    string
	device string
}

func (p program) command(args ...string) *exec.Cmd {
	if args[0] != "export" {
		args = append(args, "--threads", "1", "--device", p.device)
	}
	cmd := exec.Command(filepath.Join(bin, "koala-lm"), args...)
	cmd.Dir, cmd.Env = p.dir, append(os.Environ(), "OMP_NUM_THREADS=1")
	if os.Getenv("KOALA_LM_TEST_GPU") == "" { // else the machine's own device
		cmd.Env = append(cmd.Env, "KOALA_LM_TEST_DEVICE=256")
	}
	return cmd
}

// run runs a command, which must succeed, and returns its standard output.
func (p program) run(args ...string) string {
	p.t.Helper()
	cmd := p.command(args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		p.t.Fatalf("koala-lm %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	return string(out)
}

// loss returns the loss that eval prints for a model on valid.
func (p program) loss(model string, args ...string) float64 {
	p.t.Helper()
	var result struct{ Loss float64 }
	out := p.run(append([]string{"eval", model, "--batch", "1", "--format", "json"}, args...)...)
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		p.t.Fatalf("%v: %s", err, out)
	}
	return result.Loss
}

// text returns a model's greedy continuation of a prompt.
func (p program) text(model, prompt string, tokens string) string {
	p.t.Helper()
	var result struct{ Text string }
	out := p.run("generate", model, "--prompt", prompt, "--temperature", "0", "--tokens", tokens, "--seed", "1", "--format", "json")
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		p.t.Fatalf("%v: %s", err, out)
	}
	return result.Text
}

func (p program) near(what string, got, want, tolerance float64) {
	p.t.Helper()
	if !(math.Abs(got-want) <= tolerance) {
		p.t.Errorf("%s: the loss is %.6f, want %.6f", what, got, want)
	}
}

// TestModelsAndCommands compares every command with PyTorch and transformers, for
// every form of model: training in float32 and bfloat16 from recorded weights,
// evaluation, generation, export, import, and resuming after a kill. All of it holds on
// the CPU and on a CUDA device, the test device.
func TestModelsAndCommands(t *testing.T) {
	for _, device := range []string{"cpu", "cuda"} {
		t.Run(device, func(t *testing.T) { modelsAndCommands(t, device) })
	}
}

func modelsAndCommands(t *testing.T, device string) {
	var recorded struct {
		Prompts []string
		Models  map[string]struct {
			Loss    float64
			Float32 struct {
				Loss  float64
				Texts []string
			}
			BFloat16 struct{ Loss float64 }
		}
	}
	content, err := os.ReadFile("testdata/models/expected.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, &recorded); err != nil {
		t.Fatal(err)
	}
	source, err := filepath.Abs("testdata/models")
	if err != nil {
		t.Fatal(err)
	}
	recurrent := []string{"train.bptt=8", "model.dropout.input=0", "model.dropout.output=0", "model.embed=16"}
	windows := []string{"model.kind=transformer", "model.context=24", "train.batching=sequential", "model.embed=16", "model.layers=2", "model.hidden=24"}
	settings := map[string][]string{
		"lstm":     append([]string{"model.layers=2", "model.hidden=24", "model.dropout.hidden=0"}, recurrent...),
		"gru":      append([]string{"model.kind=gru", "model.layers=1", "model.hidden=24", "model.tied=false"}, recurrent...),
		"adaptive": append([]string{"model.layers=1", "model.hidden=24", "model.softmax=adaptive", "model.cutoffs=[40, 120]"}, recurrent...),
		"gpt2":     append([]string{"model.heads=2"}, windows...),
		"llama":    append([]string{"model.norm=rms", "model.position=rotary", "model.mlp=swiglu", "model.heads=4", "model.kv_heads=2", "model.tied=false"}, windows...),
	}
	folders := map[string]bool{"gpt2": true, "llama": true} // forms that transformers has
	for name, want := range recorded.Models {
		t.Run(name, func(t *testing.T) {
			p := program{t, t.TempDir(), device}
			for _, split := range []string{"train.txt", "valid.txt"} {
				text, err := os.ReadFile(filepath.Join(source, split))
				if err != nil {
					t.Fatal(err)
				}
				if err := os.MkdirAll(filepath.Join(p.dir, "text"), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(p.dir, "text", split), text, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			prepare := exec.Command(filepath.Join(bin, "koala-lm"), "prepare", "text", "--tokenizer", filepath.Join(source, "tokenizer.json"), "--out", "data", "--quiet")
			prepare.Dir = p.dir
			if out, err := prepare.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			train := func(run string, set ...string) []string {
				args := []string{"train", "--data", "data", "--name", run, "--quiet"}
				set = append(append([]string{
					"train.batch=1", "eval.batch=1", "optimizer.kind=sgd", "optimizer.lr=0.5", "train.clip=0", "train.steps=4",
				}, settings[name]...), set...)
				for _, s := range set {
					args = append(args, "--set", s)
				}
				return args
			}
			weights := filepath.Join(source, name+".safetensors")

			p.run(append(train("start", "optimizer.lr=1e-12", "train.steps=1"), "--init", weights)...)
			p.near("the recorded weights", p.loss("start"), want.Loss, 1e-5)

			p.run(append(train("trained"), "--init", weights)...)
			p.near("trained in float32", p.loss("trained"), want.Float32.Loss, 2e-5)
			p.run(append(train("half", "train.precision=bfloat16"), "--init", weights)...)
			p.near("trained in bfloat16", p.loss("half"), want.BFloat16.Loss, 0.06)
			if tf32 := append(train("tf32", "train.precision=tf32"), "--init", weights); device == "cuda" {
				p.run(tf32...)
				p.near("trained in TF32", p.loss("tf32"), want.Float32.Loss, 0.02)
			} else if out, err := p.command(tf32...).CombinedOutput(); err == nil || !strings.Contains(string(out), "tf32 is for CUDA") {
				t.Errorf("train.precision=tf32 on the CPU: %v: %s", err, out)
			}
			for i, prompt := range recorded.Prompts {
				if got := p.text("trained", prompt, "8"); got != want.Float32.Texts[i] {
					t.Errorf("%q is followed by %q, want %q", prompt, got, want.Float32.Texts[i])
				}
			}

			p.run("export", "trained", "--to", "safetensors", "--out", "trained.safetensors")
			p.run(append(train("again", "optimizer.lr=1e-12", "train.steps=1"), "--init", "trained.safetensors")...)
			p.near("exported as safetensors, and the start of a run", p.loss("again"), want.Float32.Loss, 2e-5)
			if !folders[name] {
				out, err := p.command("export", "trained", "--to", "huggingface", "--out", "folder").CombinedOutput()
				if _, statErr := os.Stat(filepath.Join(p.dir, "folder")); err == nil || statErr == nil {
					t.Errorf("transformers has no such model, and export wrote a folder: %s", out)
				}
			} else {
				p.run("export", "trained", "--to", "huggingface", "--out", "folder")
				p.near("exported as a folder", p.loss("./folder", "--data", "data"), want.Float32.Loss, 2e-5)
				if got := p.text("./folder", recorded.Prompts[0], "8"); got != want.Float32.Texts[0] {
					t.Errorf("the folder follows with %q, want %q", got, want.Float32.Texts[0])
				}
				p.run("train", "--data", "data", "--name", "shaped", "--quiet", "--init", "./folder", "--set", "optimizer.kind=sgd", "--set", "optimizer.lr=1e-12", "--set", "train.steps=1", "--set", "train.batch=1")
				p.near("a run that has its shape from the folder", p.loss("shaped"), want.Float32.Loss, 2e-5)
			}
			p.resume(train)
			p.run(append(train("ranks", "train.batch=2"), "--nproc", "2")...)
			p.run(train("alone", "train.batch=2")...)
			p.near("trained by two ranks", p.loss("ranks"), p.loss("alone"), 1e-5)
		})
	}
}

// resume kills a run with checkpoints and resumes it. It must end with the weights
// of an uninterrupted run.
func (p program) resume(train func(run string, set ...string) []string) {
	p.t.Helper()
	long := []string{"train.steps=80", "checkpoint.every=2", "checkpoint.keep=2", "eval.every=1000", "optimizer.kind=adamw", "optimizer.lr=0.01"}
	p.run(train("whole", long...)...)
	before, err := filepath.Glob(filepath.Join(p.dir, "runs", "*"))
	if err != nil {
		p.t.Fatal(err)
	}
	killed := p.command(train("killed", long...)...)
	if err := killed.Start(); err != nil {
		p.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- killed.Wait() }()
	for tick := time.NewTicker(5 * time.Millisecond); ; {
		now, err := filepath.Glob(filepath.Join(p.dir, "runs", "*", "checkpoints", "step-*"))
		if err != nil {
			p.t.Fatal(err)
		}
		fresh := 0
		for _, path := range now {
			if !under(path, before) {
				fresh++
			}
		}
		if fresh >= 2 {
			tick.Stop()
			break
		}
		select {
		case err := <-ended:
			p.t.Fatalf("the run ended before it had two checkpoints: %v", err)
		case <-tick.C:
		}
	}
	if err := killed.Process.Kill(); err != nil {
		p.t.Fatal(err)
	}
	if err := <-ended; err == nil {
		p.t.Fatal("the run ended before it was killed: it needs more steps")
	}
	p.run("train", "--resume", "killed", "--quiet")
	for _, run := range []string{"whole", "killed"} {
		p.run("export", run, "--to", "safetensors", "--out", run+".safetensors")
	}
	a, errA := os.ReadFile(filepath.Join(p.dir, "whole.safetensors"))
	b, errB := os.ReadFile(filepath.Join(p.dir, "killed.safetensors"))
	if errA != nil || errB != nil || !bytes.Equal(a, b) {
		p.t.Errorf("killed and resumed, the run ended with other weights: %v, %v", errA, errB)
	}
}

func under(path string, folders []string) bool {
	for _, folder := range folders {
		if strings.HasPrefix(path, folder+string(filepath.Separator)) {
			return true
		}
	}
	return false
}
