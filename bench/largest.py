"""Prints the largest GPT that fits a GPU, by optimizer and precision, as `koala-lm train
--dry-run` estimates its memory. No GPU is needed, and nothing is trained.

    python3 bench/largest.py --data prepared/godoc

Models have GPT-2's form: heads of 64, a block for each 32 units of width, a vocabulary of
50,257, and batches of 8 texts of 1,024 tokens.
"""

import argparse
import re
import subprocess

KINDS = ["sgd", "koala-v", "lion", "muon", "koala-k", "adamw", "koala-d", "soap"]
UNITS = {"MiB": 1 / 1024, "GiB": 1, "TiB": 1024}

flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
flags.add_argument("--data", required=True, help="any dataset: the vocabulary is GPT-2's")
flags.add_argument("--koala-lm", default="bin/koala-lm", help="the program")
flags.add_argument("--memory", nargs="*", type=float, default=[24, 80], help="sizes of GPUs in GiB")
flags.add_argument("--kinds", nargs="*", default=KINDS, help="optimizers")
args = flags.parse_args()


def estimate(kind, precision, checkpointing, width):
    """The parameters and the GiB of a model of a width."""
    settings = {
        "model.kind": "transformer", "model.vocab": 50257, "model.context": 1024, "model.embed": width, "model.heads": width // 64,
        "model.layers": width // 32, "model.dropout.input": 0, "model.dropout.hidden": 0, "train.batch": 8,
        "train.average": "none", "train.precision": precision, "train.gradient_checkpointing": str(checkpointing).lower(), "optimizer.kind": kind,
    }
    command = [args.koala_lm, "train", "--dry-run", "--device", "cuda", "--data", args.data]
    for key, value in settings.items():
        command += ["--set", f"{key}={value}"]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"([\d,]+) parameters.*memory about ([\d.]+) (\w+)", out.stdout + out.stderr)
    return int(found[1].replace(",", "")), float(found[2]) * UNITS[found[3]]


def largest(kind, precision, checkpointing, memory):
    """The largest width that fits, and its parameters."""
    few, many = 2, 256  # times 64
    while few + 1 < many:
        middle = (few + many) // 2
        if estimate(kind, precision, checkpointing, 64 * middle)[1] <= memory:
            few = middle
        else:
            many = middle
    return 64 * few, estimate(kind, precision, checkpointing, 64 * few)[0]


print("| optimizer | precision | " + " | ".join(f"{m:.0f} GiB | with checkpointing" for m in args.memory) + " |")
print("| --- | --- |" + " --- |" * 2 * len(args.memory))
for kind in args.kinds:
    for precision in ["float32", "bfloat16"]:
        cells = []
        for memory in args.memory:
            for checkpointing in [False, True]:
                width, parameters = largest(kind, precision, checkpointing, memory)
                cells.append(f"{parameters / 1e9:.2f} B ({width // 32} x {width})")
        print(f"| {kind} | {precision} | " + " | ".join(cells) + " |", flush=True)
