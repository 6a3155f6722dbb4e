"""Times training steps in koala-lm and in PyTorch, in turn, and prints them side by side.

Each row is one peer. Rounds alternate between the two programs, so that what else the
machine does falls on both; the ratio is the median of those of the rounds, of tokens a
second (more is better) and of peak resident memory (less is better).
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent

LSTM = ["--config", "small", "--set", "optimizer.kind=sgd", "--set", "optimizer.lr=20", "--set", "train.clip=0.25"]
LSTM_KOALA = ["--config", "small", "--set", "optimizer.kind=koala-v"]
GPT = ["--config", "gpt-char-cpu"]


def lstm(hidden):
    """The published word-level LSTM of so many units (2 x 650, 2 x 1,500) beside its peers."""
    name = f"LSTM 2x{hidden} tied, 33,278 words, SGD"
    return name, LSTM + ["--config", f"wlm-{hidden}", "--vocab", "33278"], [["lstm_peer.py", "--hidden", hidden, *more] for more in ([], ["--tuned-allocator"])]


def gpt(name, vocab, *, layers, heads, embed, context, batch):
    shape = {"layers": layers, "heads": heads, "embed": embed, "context": context}
    ours = [word for key, value in shape.items() for word in ("--set", f"model.{key}={value}")]
    theirs = [word for key, value in {**shape, "batch": batch, "vocab": vocab}.items() for word in (f"--{key}", value)]
    return (f"{name}, context {context}, {vocab:,} ids, AdamW", GPT + ["--vocab", vocab, "--set", f"train.batch={batch}", *ours],
            [["gpt_peer.py", *theirs, *more] for more in ([], ["--tuned-allocator"], ["--compile"])])


# name, what koala-lm is asked for, what the peers are, and the peers.
CASES = {
    "lstm": ("LSTM 2x200 tied, 33,278 words, SGD", LSTM + ["--vocab", "33278"],
             [["lstm_peer.py"], ["lstm_peer.py", "--tuned-allocator"]]),
    "lstm-koala": ("LSTM 2x200 tied, 33,278 words, KOALA-V", LSTM_KOALA + ["--vocab", "33278"],
                   [["lstm_peer.py", "--optimizer", "koala-v"], ["lstm_peer.py", "--optimizer", "koala-v", "--tuned-allocator"]]),
    "lstm-10k": ("LSTM 2x200 tied, 10,000 words, SGD", LSTM + ["--vocab", "10000"],
                 [["lstm_peer.py", "--vocab", "10000"], ["lstm_peer.py", "--vocab", "10000", "--tuned-allocator"]]),
    "lstm-100k": ("LSTM 2x200 tied, 100,000 words, SGD", LSTM + ["--vocab", "100000"],
                  [["lstm_peer.py", "--vocab", "100000"], ["lstm_peer.py", "--vocab", "100000", "--tuned-allocator"]]),
    "gpt": ("GPT 4x128, context 64, 65 characters, AdamW", GPT + ["--vocab", "65"],
            [["gpt_peer.py"], ["gpt_peer.py", "--tuned-allocator"], ["gpt_peer.py", "--compile"]]),
    "gpt-bpe": ("GPT 4x128, context 64, BPE of 8,000, AdamW", GPT + ["--vocab", "8000"],
                [["gpt_peer.py", "--vocab", "8000"], ["gpt_peer.py", "--vocab", "8000", "--tuned-allocator"]]),
    # Sizes that people train: 5 steps of them are enough (--gpt-steps, --lstm-steps).
    "lstm-650": lstm(650),
    "lstm-1500": lstm(1500),
    "gpt-384": gpt("GPT 6x384", 65, layers=6, heads=6, embed=384, context=256, batch=8),
    "gpt-384-bpe": gpt("GPT 6x384", 8000, layers=6, heads=6, embed=384, context=256, batch=8),
    "gpt-124m": gpt("GPT-2 124M", 50257, layers=12, heads=12, embed=768, context=1024, batch=1),
}
WARMUP = {"lstm": 3, "gpt": 10}

flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
flags.add_argument("--koala-lm", type=lambda path: pathlib.Path(path).resolve(), default=HERE.parent / "bin" / "koala-lm")
flags.add_argument("--cases", nargs="*", choices=CASES, default=["lstm", "gpt"])
flags.add_argument("--threads", nargs="*", type=int, default=[1, 2])
flags.add_argument("--rounds", type=int, default=3)
flags.add_argument("--lstm-steps", type=int, default=15)
flags.add_argument("--gpt-steps", type=int, default=100)
flags.add_argument("--precision", choices=["float32", "bfloat16"], default="float32", help="bfloat16: the peers' products under autocast")
args = flags.parse_args()


def measure(command):
    """Run a program that prints one line of JSON."""
    done = subprocess.run([str(c) for c in command], cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def describe(peer):
    words = [w for w, flag in (("tuned allocator", "--tuned-allocator"), ("torch.compile", "--compile")) if flag in peer]
    return "PyTorch, " + (", ".join(words) or "as it comes")


def megabytes(rows):
    return statistics.median(r["peak_rss_bytes"] for r in rows) / 1e6


print("| model | threads | peer | peer tok/s | koala-lm tok/s | ratio | peer MB | koala-lm MB | ratio |")
print("| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
for case in args.cases:
    title, ours, peers = CASES[case]
    kind = case.split("-")[0]
    steps = ["--steps", getattr(args, kind + "_steps"), "--warmup", min(WARMUP[kind], getattr(args, kind + "_steps"))]
    ours, peers = ours + ["--set", f"train.precision={args.precision}"], [[*peer, "--precision", args.precision] for peer in peers]
    for threads in args.threads:
        rounds = []
        for _ in range(args.rounds):
            mine = measure([args.koala_lm, "bench", "--format", "json", "--device", "cpu", "--threads", threads, *steps, *ours])
            rounds.append((mine, [measure([sys.executable, *peer, "--threads", threads, *steps]) for peer in peers]))
        mine = [m for m, _ in rounds]
        for i, peer in enumerate(peers):
            theirs = [t[i] for _, t in rounds]
            speed = statistics.median(m["tokens_per_second"] / t["tokens_per_second"] for m, t in zip(mine, theirs))
            print("| {} | {} | {} | {:,.0f} | {:,.0f} | {:.2f}x | {:,.0f} | {:,.0f} | {:.2f}x |".format(
                title, threads, describe(peer),
                statistics.median(t["tokens_per_second"] for t in theirs), statistics.median(m["tokens_per_second"] for m in mine), speed,
                megabytes(theirs), megabytes(mine), megabytes(mine) / megabytes(theirs)), flush=True)
