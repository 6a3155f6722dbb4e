"""Times tokenizers side by side, on one thread: MB/s of CPU time.

  python tokenizers_speed.py --tokenizers gpt2.json cl100k.json [--texts FILE...]

The texts are joined; without any it is the documentation of the Go installation. Each
program encodes the whole text once in a process of its own, whose caches are empty, and
the fastest of --rounds counts; programs take turns. `encoder` is our package alone;
`prepare` is the whole command, less its time for a text of one word.
"""

import argparse
import json
import os
import pathlib
import re
import resource
import subprocess
import sys
import tempfile
import time

from tokenizers_peer import ROOT, godoc

KOALA = os.environ.get("KOALA_LM", str(ROOT / "bin" / "koala-lm"))
SLOW = 2_000_000  # bytes for programs of a few MB/s


def byte_of():
    """Byte by its character in the byte-level alphabet."""
    printable = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


def gigatoken(path):
    import gigatoken
    return gigatoken.Tokenizer(path).encode


def fastokens(path):
    import fastokens
    return fastokens.Tokenizer.from_file(path).encode


def tiktoken(path):
    import tiktoken
    model, bytes_of = json.loads(pathlib.Path(path).read_text()), byte_of()
    ranks = {bytes(bytes_of[c] for c in token): i for token, i in model["model"]["vocab"].items() if all(c in bytes_of for c in token)}
    from tiktoken_ext import openai_public
    openai_public.load_tiktoken_bpe = openai_public.data_gym_to_mergeable_bpe_ranks = lambda *_, **__: {}
    pattern = (openai_public.cl100k_base if len(ranks) > 60_000 else openai_public.r50k_base)()["pat_str"]
    return tiktoken.Encoding("file", pat_str=pattern, mergeable_ranks=ranks, special_tokens={}).encode_ordinary


def huggingface(path):
    from tokenizers import Tokenizer
    t = Tokenizer.from_file(path)
    return lambda text: t.encode(text, add_special_tokens=False).ids


PEERS = {f.__name__: f for f in (gigatoken, fastokens, tiktoken, huggingface)}
ONE = dict(os.environ, RAYON_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1")


def one(name, tokenizer, text):
    """Encodes a text once; prints seconds and the number of ids."""
    encode, text = PEERS[name](tokenizer), pathlib.Path(text).read_bytes().decode()
    start = time.process_time()
    ids = encode(text)
    print(time.process_time() - start, len(ids))


def run(*args, env=ONE):
    """Runs a command; returns its output, CPU seconds and wall seconds."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    out = subprocess.run([*map(str, args)], env=env, check=True, capture_output=True, text=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return out, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.perf_counter() - start


def measure(tokenizer, text, work, rounds):
    short, tiny = work / "short.txt", work / "tiny.txt"
    content = text.read_bytes()
    short.write_bytes(content[:SLOW].decode(errors="ignore").encode())
    tiny.write_text("word\n")
    best = {}

    def note(name, size, seconds):
        best[name] = max(best.get(name, 0), size / 1e6 / seconds)

    def prepare(path, workers):
        _, cpu, wall = run(KOALA, "prepare", path, "--tokenizer", tokenizer, "--valid", 0, "--test", 0, "--quiet", "--force",
                           "--workers", workers, "--out", work / "out", env=dict(ONE, GOMAXPROCS=str(workers)))
        return cpu, wall

    def ours():
        env = dict(ONE, GOMAXPROCS="1", KOALA_LM_BENCH_TEXT=str(text), KOALA_LM_BENCH_TOKENIZER=str(tokenizer))
        out, _, _ = run(work / "bench", "-test.run", "^$", "-test.bench", "^Benchmark(Encode|Load)File$", "-test.benchtime", "2x", env=env)
        best["loading, ms"] = min(best.get("loading, ms", 1e9), float(re.search(r"LoadFile\s+\d+\s+(\d+)", out)[1]) / 1e6)
        note("encoder", len(content), len(content) / 1e6 / float(re.search(r"EncodeFile.*?([\d.]+) MB/s", out)[1]))

    for _ in range(rounds):
        ours()
        start, whole = prepare(tiny, 1), prepare(text, 1)
        note("prepare", len(content), whole[0] - start[0])
        two = prepare(tiny, 2), prepare(text, 2)
        note("two workers, wall", len(content), two[1][1] - two[0][1])
        note("one worker, wall", len(content), whole[1] - start[1])
        for name in PEERS:
            path = short if name == "huggingface" else text
            try:
                out, _, _ = run(sys.executable, __file__, "--one", name, tokenizer, path)
            except subprocess.CalledProcessError as e:
                print(f"{name} on {tokenizer.name}: {e.stderr.strip().splitlines()[-1]}", file=sys.stderr)
                best[name] = float("nan")
                continue
            note(name, path.stat().st_size, float(out.split()[0]))
    return best


def main():
    if sys.argv[1:2] == ["--one"]:
        return one(*sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizers", nargs="*", type=pathlib.Path, default=[], metavar="FILE")
    parser.add_argument("--texts", nargs="*", type=pathlib.Path, default=[], metavar="FILE")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    if not args.tokenizers:
        parser.error("name tokenizer.json files of byte-level BPE: make bench-tokenizers TOKENIZERS=\"gpt2.json cl100k.json\"")
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        text = work / "text.txt"
        if args.texts:
            text.write_bytes(b"".join(p.read_bytes() for p in args.texts))
        else:
            godoc(work / "godoc", text)
        subprocess.run(["go", "test", "-c", "-o", str(work / "bench"), "./data/tokenizer"], cwd=ROOT, env=dict(os.environ, GOWORK="off"), check=True)
        columns = {p.name: measure(p.resolve(), text, work, args.rounds) for p in args.tokenizers}
        print(f"MB/s, one thread, {text.stat().st_size / 1e6:.1f} MB of text")
        print(f"{'':20}" + "".join(f"{name:>20}" for name in columns))
        for row in next(iter(columns.values())):
            print(f"{row:20}" + "".join(f"{column[row]:20.1f}" for column in columns.values()))


if __name__ == "__main__":
    main()
