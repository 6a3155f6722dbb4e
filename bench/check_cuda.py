"""Checks koala-lm on a machine with an NVIDIA GPU and PyTorch 2.11, without Go.

`make check-cuda` packs this script with the programs, their tests and their libraries:

    tar xzf koala-lm-cuda.tar.gz && python3 koala-lm-cuda/check_cuda.py

It runs the tests on the GPU: losses as on the CPU for every model and optimizer, every
command against losses that PyTorch recorded, float32 and bfloat16. It trains with NCCL on
one device, and on all if there are more. It times training steps beside PyTorch's. The
answer is one file, cuda-report.md, and the exit code: 0 if all checks passed.
"""

import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent

# Name, folder to run in, the tests that need a device.
SUITES = [
    ("device", "internal/torch/torchtest", "."),
    ("optimizers", "koala", "Reference|Oracle|State|Hazard"),
    ("models", "lm", "Device"),
    ("commands", "cmd/internal/endtoend", "TestModelsAndCommands/cuda"),
]

LSTM = ["--set", "optimizer.kind=sgd", "--set", "optimizer.lr=20", "--set", "train.clip=0.25"]
GPT_GPU = ["--layers", "6", "--heads", "6", "--embed", "384", "--context", "256", "--batch", "64", "--vocab", "65"]
GPT2 = ["--layers", "12", "--heads", "12", "--embed", "768", "--context", "1024", "--batch", "12", "--vocab", "50304"]

# Name, title, what koala-lm is asked for, the peer's script and flags, whether it compiles.
CASES = [
    ("lstm", "LSTM 2x200 tied, 33,278 words, SGD", ["--config", "small", "--vocab", "33278", *LSTM], ["lstm_peer.py"], False),
    ("gpt", "GPT 6x384, context 256, 65 characters, AdamW", ["--config", "gpt-char-gpu", "--vocab", "65", "--set", "model.dropout.input=0",
     "--set", "model.dropout.hidden=0"], ["gpt_peer.py", *GPT_GPU], True),
    ("gpt2", "GPT-2 124M, 12 x 1,024 tokens, AdamW", ["--config", "gpt2-124m", "--vocab", "50304", "--set", "train.accumulate=1"],
     ["gpt_peer.py", *GPT2], True),
]

flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
flags.add_argument("--out", default="cuda-report.md", help="the report")
flags.add_argument("--steps", type=int, default=50, help="steps to time")
flags.add_argument("--cases", nargs="*", choices=[c[0] for c in CASES], default=[c[0] for c in CASES], help="models to time")
args = flags.parse_args()

report, failures = [], []


def say(line):
    print(line, flush=True)
    report.append(line)


def stop(reason):
    """Ends the check with a reason, which is also the report."""
    pathlib.Path(args.out).write_text(f"# koala-lm on CUDA\n\nNot checked: {reason}\n")
    sys.exit(f"check-cuda: {reason}")


def run(command, cwd=HERE, env=None):
    done = subprocess.run([str(c) for c in command], cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout


def check(what, command, cwd=HERE, env=None):
    """Runs one check and reports whether it passed."""
    start = time.time()
    code, out = run(command, cwd, env)
    lines = [line for line in out.splitlines() if line.strip()]
    skipped = sum("--- SKIP" in line for line in lines)
    passed = code == 0 and not any("no tests to run" in line for line in lines)
    if not passed:
        failures.append((what, "\n".join(lines[-40:])))
    say(f"| {what} | {'passed' if passed else '**failed**'}{f', {skipped} skipped' if skipped else ''} | {time.time() - start:.0f} s |")
    return out


def tokens_per_second(command, env=None):
    """Of a program that prints one line of JSON; the reason as text if it fails."""
    code, out = run(command, HERE / "bench", env)
    for line in reversed(out.splitlines()):
        if line.startswith("{"):
            return json.loads(line)["tokens_per_second"]
    return f"exit code {code}: {' '.join(out.split())[-200:]}"


try:
    import torch
except ImportError as e:
    stop(f"PyTorch is not installed ({e}): pip install torch==2.11.0")
if not torch.__version__.startswith("2.11."):
    stop(f"PyTorch is {torch.__version__}, and koala-lm was compiled for 2.11")
if not torch.cuda.is_available():
    stop("PyTorch finds no CUDA device: is there an NVIDIA GPU, and is its driver loaded?")

libraries = [HERE / "lib", pathlib.Path(torch.__file__).parent / "lib"]
env = dict(os.environ, LD_LIBRARY_PATH=":".join(map(str, libraries)), KOALA_LM_TEST_GPU="1", KOALA_LM_TEST_BIN=str(HERE / "bin"))
koala_lm = HERE / "bin" / "koala-lm"
devices = torch.cuda.device_count()

say("# koala-lm on CUDA\n")
say(f"{devices} x {torch.cuda.get_device_name(0)}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}, {platform.platform()}\n")
say(run([koala_lm, "version"], env=env)[1].strip().replace("\n", "  \n") + "\n")

say("| check | result | time |\n| --- | --- | ---: |")
for name, folder, tests in SUITES:
    check(f"tests: {name}", [HERE / folder / "test", "-test.v", "-test.run", tests, "-test.timeout", "30m"], HERE / folder, env)
with tempfile.TemporaryDirectory() as folder:
    text = pathlib.Path(folder, "text.txt")
    text.write_text("\n".join(f"the koala of tree {i * i % 97} eats leaf {i % 13}" for i in range(4000)))
    check("prepare", [koala_lm, "prepare", "text.txt", "--out", "data", "--quiet"], folder, env)
    for n in sorted({1, devices}):
        check(f"train with {n} device{'s' if n > 1 else ''}", [koala_lm, "train", "--data", "data", "--device", "cuda", "--nproc", n,
              "--steps", 50, "--set", "train.batch=16", "--name", f"on-{n}", "--quiet"], folder, env)

say("\nTokens a second in training:\n")
say("| model | precision | koala-lm | PyTorch, eager | ratio | PyTorch, compiled | ratio |\n| --- | --- | ---: | ---: | ---: | ---: | ---: |")
for name, title, ours, peer, compiles in CASES:
    for precision in ["float32", "tf32", "bfloat16"] if name in args.cases else []:
        steps = ["--steps", args.steps, "--warmup", 10]
        mine = tokens_per_second([koala_lm, "bench", "--format", "json", "--device", "cuda", *steps, *ours, "--set", f"train.precision={precision}"], env)
        theirs = [sys.executable, *peer, "--device", "cuda", "--precision", precision, *steps]
        cells = [title, precision, mine]
        for other in [tokens_per_second(theirs), tokens_per_second([*theirs, "--compile"]) if compiles else ""]:
            cells += [other, mine / other if isinstance(mine, float) and isinstance(other, float) else ""]
        texts = [f"{c:,.0f}" if isinstance(c, float) and c >= 10 else f"{c:.2f}x" if isinstance(c, float) else str(c) for c in cells]
        say("| " + " | ".join(texts) + " |")
        if not isinstance(mine, float):
            failures.append((f"bench: {title}, {precision}", mine))

for what, out in failures:
    say(f"\n## {what}\n\n```\n{out}\n```")
pathlib.Path(args.out).write_text("\n".join(report) + "\n")
print(f"\n{args.out}: {'all checks passed' if not failures else f'{len(failures)} checks failed'}")
sys.exit(1 if failures else 0)
