"""Holds our tokenizers against Hugging Face's: equal ids, merges and
vocabularies on whole texts, and speed.

  python tokenizers_peer.py [FILE...]     text files beside the two made here

One text is the documentation of the Go installation (--corpus godoc), another
is torture: every white space, mark and script that has ever been cut wrongly.
Exits with 1 if a single id differs.
"""

import argparse
import json
import os
import pathlib
import random
import re
import struct
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
VOCAB = 8000

ODD = ["\ufeff", "\0", "\r\n", "\n", "\n\n", "\r", "\u2028", "\u2029", "\u0085", "\u00a0", "\u3000", "\u2003", "\u200b",
       "\u200d", "e\u0301", "a\u0300\u0316", "\U0001F468\u200D\U0001F469\u200D\U0001F467", "\U0001F1E9\U0001F1EA",
       "\u202e", "\t", " ", "  ", "   ", "\v", "\f", "\x1c", "\x1f", "'s", "'t", "'re", "'ve", "'ll", "'d", "'m", "'S",
       "\u2019s", "'", "''", "don't", "I'll", "rooms 1000", "1000", "12ab34", "\u0661\u0662", "\u2167", "\u00b2", "\u00bd",
       "\u4e2d\u6587", "\u65e5\u672c\u8a9e", "\uac00\u1100\u1161", "\u0e2a\u0e27\u0e31\u0e2a", "\u0915\u094d\u0937\u093f",
       "\u05d0\u05d1", "\u0627\u0644", "\ud7a3", "\U00010400", "\U00011380", "\U00016139", "\U0002EBF0", "\u1c89",
       "\ufffd", "\uffff", "\U0010FFFF", "\ue000", "<|endoftext|>", "<unk>", "[UNK]", "the", "The", "koala", "_", "-",
       "--", "...", "!!", "$", "(", ")", "http://x.y/z?a=b&c=d", "\u00df", "\u0130", "\u0131", "\ufb03", "\u00c5ngstr\u00f6m"]


def torture(path):
    rng = random.Random(5)
    parts = []
    for _ in range(60000):
        parts.append(rng.choice(ODD))
        if rng.random() < 0.3:
            parts.append(" ")
        if rng.random() < 0.02:
            parts.append(rng.choice(["\n", " ", "\t", "\u00a0"]) * rng.randint(2, 20))
    parts.append("\n" + "a" * 40000 + " " + "ab" * 20000 + "\n" + " " * 5000 + "\n")
    path.write_text("".join(parts), encoding="utf-8", newline="")


def koala(*args):
    binary = os.environ.get("KOALA_LM", str(ROOT / "bin" / "koala-lm"))
    subprocess.run([binary, "prepare", "--quiet", "--valid", "0", "--test", "0", *map(str, args)], check=True, stdout=subprocess.DEVNULL)


def read_ids(folder):
    info = json.loads((folder / "dataset.json").read_text())
    width, code = (2, "H") if info["token_type"] == "uint16" else (4, "I")
    content = (folder / "train.bin").read_bytes()
    return list(struct.unpack(f"<{len(content) // width}{code}", content))


def godoc(folder, path):
    """Writes the text of corpus godoc to a file, its documents joined."""
    koala("--corpus", "godoc", "--tokenizer", "byte", "--out", folder)
    path.write_bytes(bytes(b for b in read_ids(folder) if b < 256))


def hf_train(path, out):
    """Trains in a process of its own, so that its threads can be set."""
    code = f"""
import time
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
t = Tokenizer(models.BPE())
t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
t.decoder, t.post_processor = decoders.ByteLevel(), processors.ByteLevel()
trainer = trainers.BpeTrainer(vocab_size={VOCAB}, min_frequency=2, special_tokens=["<|endoftext|>"],
                              initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
start = time.perf_counter()
t.train([{str(path)!r}], trainer)
print(time.perf_counter() - start)
t.save({str(out)!r})
"""
    def run(threads):
        env = dict(os.environ, RAYON_NUM_THREADS=str(threads))
        return float(subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True).stdout)
    return {threads: run(threads) for threads in (1, 2)}


def read_text(path):
    with open(path, newline="", encoding="utf-8") as f:
        return f.read()


class Report:
    def __init__(self):
        self.failures = 0

    def line(self, what, ours, theirs):
        same = ours == theirs
        note = "equal" if same else "DIFFERENT"
        if not same:
            self.failures += 1
            at = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
            note += f" at {at}: ours {list(ours[at:at + 5])}, theirs {list(theirs[at:at + 5])}"
        print(f"  {what:44} {len(theirs):10,}  {note}", flush=True)


def compare(path, work, report):
    from tokenizers import Tokenizer
    text = read_text(path)
    print(f"{path.name}: {len(text.encode()) / 1e6:.1f} MB")
    hf_train(path, work / "hf.json")
    for kind, size in (("bpe", VOCAB), ("word", 0), ("char", 0), ("byte", 0)):
        out = work / f"{path.name}-{kind}"
        koala(path, "--tokenizer", kind, "--out", out, *(["--vocab-size", size] if size else []))
        if kind == "bpe":
            ours, theirs = (json.loads(f.read_text())["model"] for f in (out / "tokenizer.json", work / "hf.json"))
            report.line("bpe: merges learned", list(map(tuple, ours["merges"])), list(map(tuple, theirs["merges"])))
            report.line("bpe: vocabulary", sorted(ours["vocab"].items()), sorted(theirs["vocab"].items()))
        # What we wrote is loaded there and gives the same ids there.
        tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
        tokenizer.encode_special_tokens = True
        whole = text if kind != "word" or text.endswith("\n") else text + "\n"
        report.line(f"{kind}: ids", read_ids(out), tokenizer.encode(whole, add_special_tokens=False).ids)
    for name, tokenizer in other_models(text):
        file, out = work / f"{name}.json", work / f"{path.name}-{name}"
        tokenizer.save(str(file))
        tokenizer = Tokenizer.from_file(str(file))  # its scores of Unigram are rounded as they are read, and rounding breaks ties
        koala(path, "--tokenizer", file, "--out", out)
        tokenizer.encode_special_tokens = True
        report.line(f"{name}: ids", read_ids(out), tokenizer.encode(text, add_special_tokens=False).ids)


CL100K = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def other_models(text):
    """Other kinds, trained on what of the text their trainers take."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    for name, pattern in (("bpe-cl100k", CL100K), ("bpe-qwen2", CL100K.replace("{1,3}", ""))):
        t = Tokenizer(models.BPE(ignore_merges=True))
        if name == "bpe-qwen2":
            t.normalizer = normalizers.NFC()
        t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"),
                                                   pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        t.decoder = decoders.ByteLevel()
        t.train_from_iterator([text[:300_000]], trainers.BpeTrainer(
            vocab_size=VOCAB, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
        yield name, t
    lines = [line for line in text[:300_000].split("\n") if len(line) < 1_000]
    for name, lower in (("wordpiece-uncased", True), ("wordpiece-cased", False)):
        t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        t.normalizer = normalizers.BertNormalizer(lowercase=lower)
        t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        t.train_from_iterator(lines, trainers.WordPieceTrainer(vocab_size=VOCAB, special_tokens=["[UNK]", "[SEP]"], show_progress=False))
        yield name, t
    for name, scheme in (("unigram", "always"), ("unigram-first", "first"), ("unigram-never", "never")):
        t = Tokenizer(models.Unigram())
        t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
        t.train_from_iterator(lines, trainers.UnigramTrainer(vocab_size=VOCAB, unk_token="<unk>", special_tokens=["<unk>", "</s>"], show_progress=False))
        yield name, t


def speed(path, work):
    """MB/s of both sides on one text; ours from the Go benchmarks."""
    from tokenizers import Tokenizer
    text = read_text(path)
    size = len(text.encode()) / 1e6
    print(f"speed on {path.name}, {size:.1f} MB, trained there to {VOCAB:,} ids")
    trained = hf_train(path, work / "hf.json")
    code = f"""
import sys, time
from tokenizers import Tokenizer
t = Tokenizer.from_file({str(work / 'hf.json')!r})
lines = open({str(path)!r}, newline="", encoding="utf-8").read().splitlines(keepends=True)
texts = ["".join(lines[i:i + 100]) for i in range(0, len(lines), 100)]
start = time.perf_counter()
t.encode_batch_fast(texts, add_special_tokens=False)
print(time.perf_counter() - start)
"""
    theirs = {}
    for threads in (1, 2):
        env = dict(os.environ, RAYON_NUM_THREADS=str(threads), TOKENIZERS_PARALLELISM="true")
        theirs[threads] = size / float(subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True).stdout)
    env = dict(os.environ, KOALA_LM_BENCH_TEXT=str(path))
    output = subprocess.run(["go", "test", "-run", "^$", "-bench", "^Benchmark(Encode|Train|Fields)", "./data/tokenizer"],
                            cwd=ROOT, env=env, check=True, capture_output=True, text=True).stdout
    ours = {m[1]: float(m[2]) for m in re.finditer(r"^Benchmark(\S+?)(?:-\d+)?\s.*?([\d.]+) MB/s", output, re.M)}
    rows = [
        ("BPE encoding, 1 thread", ours["EncodeBPE"], theirs[1]),
        ("BPE encoding, 2 threads", ours["EncodeBPEParallel"], theirs[2]),
        ("BPE training, 1 thread", ours["TrainBPE"], size / trained[1]),
        ("BPE training, 2 threads", ours["TrainBPEParallel"], size / trained[2]),
        ("words, against strings.Fields and a map", ours["EncodeWord"], ours["FieldsAndMap"]),
        ("words, two workers against one", ours["EncodeWordParallel"], ours["EncodeWord"]),
    ]
    print(f"  {'':44} {'ours MB/s':>10} {'theirs':>10} {'ratio':>7}")
    for what, mine, other in rows:
        print(f"  {what:44} {mine:10.1f} {other:10.1f} {mine / other:6.1f}x")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--no-speed", action="store_true", help="compare only")
    parser.add_argument("--only-speed", action="store_true", help="time only")
    args = parser.parse_args()
    report = Report()
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        torture(work / "torture.txt")
        godoc(work / "godoc", work / "godoc.txt")
        for path in [] if args.only_speed else [work / "torture.txt", work / "godoc.txt", *args.files]:
            with tempfile.TemporaryDirectory(dir=folder) as own:
                compare(path.resolve(), pathlib.Path(own), report)
        if not args.no_speed:
            speed(work / "godoc.txt", work)
    if report.failures:
        sys.exit(f"{report.failures} differences")


if __name__ == "__main__":
    main()
