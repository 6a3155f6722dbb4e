"""Holds tokenizer files against the programs that made them, id by id.

  python tokenizer_files.py [--texts PATH...] [FILE or FOLDER...]

Without files it takes the classes of Hugging Face's tutorials, trained here. Each file
encodes texts, its own added tokens, and 2 MB of random Unicode, with special tokens as
text and as tokens. A tokenizer.json is compared with the package tokenizers, a .model
with sentencepiece, .tiktoken with tiktoken, tekken.json with mistral_common,
rwkv_vocab*.txt with rwkv. What koala-lm writes of these must give the same ids in
tokenizers.

Exits with 1 if an id differs, and if a class of the tutorials is refused.
"""

import argparse
import array
import base64
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import unicodedata

from tokenizers import (AddedToken, Regex, Tokenizer, decoders, implementations, models, normalizers, pre_tokenizers,
                        trainers)

ROOT = pathlib.Path(__file__).resolve().parent.parent
KOALA = os.environ.get("KOALA_LM", str(ROOT / "bin" / "koala-lm"))

TEXTS = {
    "english": "The quick brown fox doesn't jump; it's over the lazy dog's 3rd bed, isn't it?\nI'LL say SO, they'd've said.\n",
    "code": "func f(x []int) (n int) {\n\tfor _, v := range x {\n\t\tif v != 0 { n += v<<2 }\n\t}\n\treturn n // done\n}\n\n\n#define X(a) \\\n  do { a; } while (0)\n",
    "cjk": "\u4e2d\u6587\u6ca1\u6709\u7a7a\u683c\u3002\u65e5\u672c\u8a9e\u306e\u6587\u3001\u30ab\u30bf\u30ab\u30ca\u3002\ud55c\uad6d\uc5b4 \ubb38\uc7a5.\n" * 20,
    "arabic and hindi": "\u0627\u0644\u0644\u063a\u0629 \u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u0661\u0662\u0663 \u0939\u093f\u0928\u094d\u0926\u0940 \u092e\u0947\u0902 \u0967\u0968\u0969\n",
    "emoji and marks": "\U0001F468\u200D\U0001F469\u200D\U0001F467 \U0001F1E9\U0001F1EA e\u0301a\u0300\u0316 z" + "\u0301" * 40 + " \u1e9b\u0323 \ufb03 \u212b \uac00\u1100\u1161\n",
    "blanks": "  two   three\t\ttabs \n \n  \r\n\u00a0nbsp\u2003em\u3000wide \u200b zero\u2028line\u2029paragraph\u0085next   ",
    "leading blanks": "   \n\n  text",
    "digits": "0 12 345 6789 1234567890 3.14159 1,000,000 0x1F 2024-11-26 \u0661\u0662 \u2167 \u00bd \u00b2",
    "capitals": "ALLCAPS CamelCase camelCase McDonald's \u00c9COLE \u0130stanbul \u01c5 STRASSE \u00df X1Y2",
    "controls": "a\0b\x01c\x1fd\x7fe\ufefff\ufffdg\u00adh\u202ei",
    "long words": "a" * 3000 + " " + "ab" * 1500 + " " + "https://example.org/a/b?c=d&e=f#g-h_i%20j " + "x" * 101 + "\n",
    "punctuation": "...!!! --- '' \"\" `` ~~ $$ ^^ || <> == +-*/ (a)[b]{c} \u201cq\u201d \u2018s\u2019 \u2014 \u2026 \u00bf\u00a1 # @ & _ __x__\n;};\n);\n",
    "empty lines": "\n\n\n\n\n",
    "one letter": "a",
    "one blank": " ",
    "special": "<|endoftext|> <s></s><unk> [CLS] a [SEP][MASK] b<pad>c <mask> <|im_start|>user\n<|im_end|> <bos> <|eot_id|> [INST]",
}


def random_unicode(size, seed):
    """Text in one document: runs of one script, blanks, marks and any assigned characters."""
    rng = random.Random(seed)
    assigned = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cs", "Cn", "Co")]
    marks = [c for c in assigned if unicodedata.combining(c)]
    blanks = [" "] * 8 + ["\n", "\n\n", "\t", "  ", "\r\n", "\u00a0", "\u3000", "\u2028"]
    ascii_text = [chr(c) for c in range(33, 127)]
    letters = "abcdefghijklmnopqrstuvwxyzETAOIN"
    parts, length = [], 0
    while length < size:
        kind = rng.random()
        if kind < 0.45:
            part = "".join(rng.choices(letters, k=rng.randint(1, 9)))
        elif kind < 0.6:
            part = "".join(rng.choices(ascii_text, k=rng.randint(1, 5)))
        elif kind < 0.7:
            start = rng.randrange(len(assigned) - 60)
            part = "".join(rng.choices(assigned[start:start + 60], k=rng.randint(1, 8)))
        elif kind < 0.78:
            part = rng.choice(letters) + "".join(rng.choices(marks, k=rng.randint(1, 4)))
        else:
            part = "".join(rng.choices(assigned, k=rng.randint(1, 3)))
        part += rng.choice(blanks) if rng.random() < 0.6 else ""
        parts.append(part)
        length += len(part.encode())
    return "".join(parts)


def tutorial_classes(folder):
    """Writes what the tutorials and the ready-made classes of tokenizers make of a text."""
    lines = [line for text in TEXTS.values() for line in text.splitlines(keepends=True) if len(line) < 1000]
    for path in sorted((ROOT / "docs").glob("*.md")) + sorted(ROOT.glob("*.md")) + sorted((ROOT / "lm").glob("*.go")):
        lines += path.read_text(encoding="utf-8").splitlines(keepends=True)

    def save(name, tokenizer):
        tokenizer.save(str(folder / f"{name}.json"))

    def trained(name, model, trainer, normalizer=None, pre=None, decoder=None, added=()):
        t = Tokenizer(model)
        if normalizer is not None:
            t.normalizer = normalizer
        if pre is not None:
            t.pre_tokenizer = pre
        if decoder is not None:
            t.decoder = decoder
        t.train_from_iterator(lines, trainer)
        t.add_tokens(list(added))
        save(name, t)

    def quiet(cls, **options):
        return cls(show_progress=False, **options)

    impl, n, p = implementations, normalizers, pre_tokenizers
    for name, tokenizer in {
        "ByteLevelBPETokenizer": impl.ByteLevelBPETokenizer(),
        "ByteLevelBPETokenizer, options": impl.ByteLevelBPETokenizer(add_prefix_space=True, lowercase=True, unicode_normalizer="nfkc", trim_offsets=True),
        "CharBPETokenizer": impl.CharBPETokenizer(),
        "CharBPETokenizer, options": impl.CharBPETokenizer(bert_normalizer=False, lowercase=True, unicode_normalizer="nfkd", split_on_whitespace_only=True),
        "SentencePieceBPETokenizer": impl.SentencePieceBPETokenizer(),
        "SentencePieceBPETokenizer, options": impl.SentencePieceBPETokenizer(add_prefix_space=False, fuse_unk=True),
        "BertWordPieceTokenizer": impl.BertWordPieceTokenizer(),
        "BertWordPieceTokenizer, cased": impl.BertWordPieceTokenizer(lowercase=False, strip_accents=True, handle_chinese_chars=False),
        "SentencePieceUnigramTokenizer": impl.SentencePieceUnigramTokenizer(),
    }.items():
        if "Unigram" in name:
            tokenizer.train_from_iterator(lines, vocab_size=1500, unk_token="<unk>", special_tokens=["<unk>", "</s>"], show_progress=False)
        else:
            tokenizer.train_from_iterator(lines, vocab_size=1500, show_progress=False)
        save(name, tokenizer)

    bert = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    alphabet = p.ByteLevel.alphabet()
    bpe = lambda **o: quiet(trainers.BpeTrainer, vocab_size=1500, **o)
    wordpiece = lambda **o: quiet(trainers.WordPieceTrainer, vocab_size=1500, special_tokens=bert, **o)
    unigram = lambda **o: quiet(trainers.UnigramTrainer, vocab_size=1500, unk_token="<unk>", special_tokens=["<unk>", "<s>", "</s>"], **o)
    level = lambda: quiet(trainers.WordLevelTrainer, vocab_size=1500, special_tokens=bert)
    words = lambda: models.WordLevel(unk_token="[UNK]")
    trained("quick tour", models.BPE(unk_token="[UNK]"), bpe(special_tokens=bert), pre=p.Whitespace())
    trained("pipeline, BERT", models.WordPiece(unk_token="[UNK]"), wordpiece(), n.Sequence([n.NFD(), n.Lowercase(), n.StripAccents()]), p.Whitespace())
    trained("pipeline, digits", models.BPE(unk_token="[UNK]"), bpe(special_tokens=bert), n.Sequence([n.NFD(), n.StripAccents()]), p.Sequence([p.Whitespace(), p.Digits(individual_digits=True)]))
    trained("training from memory", models.Unigram(), unigram(initial_alphabet=alphabet), n.NFKC(), p.ByteLevel(), decoders.ByteLevel())
    trained("course, WordPiece", models.WordPiece(unk_token="[UNK]"), wordpiece(), n.BertNormalizer(lowercase=True), p.BertPreTokenizer())
    trained("course, BPE", models.BPE(), bpe(special_tokens=["<|endoftext|>"]), pre=p.ByteLevel(add_prefix_space=False), decoder=decoders.ByteLevel())
    trained("course, Unigram", models.Unigram(), unigram(), n.Sequence([n.Replace("``", '"'), n.Replace("''", '"'), n.NFKD(), n.StripAccents(), n.Replace(Regex(" {2,}"), " ")]), p.Metaspace(), decoders.Metaspace())
    trained("Llama 2", models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True), bpe(special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)]),
            n.Sequence([n.Prepend("\u2581"), n.Replace(" ", "\u2581")]))
    trained("Llama 2, Metaspace first", models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True), bpe(special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)]),
            pre=p.Metaspace(prepend_scheme="first", split=False))
    trained("XLNet", models.Unigram(), unigram(), n.Sequence([n.Nmt(), n.NFKC(), n.Strip(left=False, right=True), n.Replace(Regex(" {2,}"), "\u2581")]), p.Metaspace(prepend_scheme="always"))
    trained("ALBERT", models.Unigram(), unigram(), n.Sequence([n.NFKD(), n.StripAccents(), n.Lowercase()]), p.Sequence([p.WhitespaceSplit(), p.Metaspace()]))
    trained("CLIP", models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>", continuing_subword_prefix=""), bpe(end_of_word_suffix="</w>", special_tokens=["<|endoftext|>"], initial_alphabet=alphabet),
            n.Sequence([n.NFC(), n.Replace(Regex(r"\s+"), " "), n.Lowercase()]),
            p.Sequence([p.Split(Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), "removed", invert=True), p.ByteLevel(add_prefix_space=False)]))
    trained("SmolLM", models.BPE(), bpe(initial_alphabet=alphabet), pre=p.Sequence([p.Digits(individual_digits=True), p.ByteLevel(add_prefix_space=False)]))
    trained("Falcon", models.BPE(), bpe(initial_alphabet=alphabet), pre=p.Sequence([p.Punctuation("contiguous"), p.ByteLevel(add_prefix_space=False), p.Digits(), p.Split(Regex("[0-9][0-9][0-9]"), "isolated")]))
    trained("ModernBERT", models.BPE(), bpe(initial_alphabet=alphabet), n.NFC(), p.ByteLevel(add_prefix_space=False),
            added=[AddedToken(" " * i, normalized=True) for i in range(24, 1, -1)] + [AddedToken("[MASK]", lstrip=True, special=True), AddedToken("word", single_word=True)])
    trained("T5 sentinels", models.Unigram(), unigram(), n.NFKC(), p.Metaspace(),
            added=[AddedToken(f"<extra_id_{i}>", lstrip=True, rstrip=True, special=i % 2 == 0, normalized=False) for i in range(10)])
    for name, pre in {
        "Whitespace": p.Whitespace(), "WhitespaceSplit": p.WhitespaceSplit(), "BertPreTokenizer": p.BertPreTokenizer(),
        "Punctuation": p.Punctuation(), "CharDelimiterSplit": p.CharDelimiterSplit("e"), "UnicodeScripts": p.UnicodeScripts(),
        "FixedLength": p.FixedLength(5), "Split of a string": p.Split("th", "merged_with_next"),
        "Split with look-around": p.Split(Regex(r"(?<=[a-z])(?=[A-Z])|\s+(?!\S)|\b\d++"), "isolated"),
        "empty Sequence": p.Sequence([]),
    }.items():
        trained(f"WordLevel, {name}", words(), level(), n.Sequence([]), pre)
    trained("WordPiece, long prefix", models.WordPiece(unk_token="[UNK]", continuing_subword_prefix="@@", max_input_chars_per_word=12), wordpiece(continuing_subword_prefix="@@"), n.Strip(), p.Sequence([p.UnicodeScripts(), p.Punctuation("merged_with_previous")]))
    trained("BPE, dropout off, prefix", models.BPE(unk_token="[UNK]", continuing_subword_prefix="##"), bpe(special_tokens=bert, continuing_subword_prefix="##"), n.Lowercase(), p.BertPreTokenizer())


class Reference:
    """The ids that a file's own program gives. special is None for programs that never
    find special tokens in a text."""

    def __init__(self, path):
        self.tokenizer, self.encoder, self.modes = None, None, [False]
        self.longest = None  # characters of a text for what is written; tokenizers' WordPiece takes the square of their number
        name, content = path.name.lower(), path.read_bytes()
        if name.endswith(".model"):
            import sentencepiece
            self.encoder = sentencepiece.SentencePieceProcessor(model_file=str(path)).encode
        elif name.endswith(".tiktoken"):
            self.encoder = tiktoken_encoder(content)
        elif name.startswith("rwkv"):
            self.encoder, self.longest = rwkv_encoder(path), 2000
        elif name.endswith(".json"):
            read = json.loads(content)
            if isinstance(read.get("vocab"), list) and "config" in read:
                from mistral_common.tokens.tokenizers.tekken import Tekkenizer
                tekken = Tekkenizer.from_file(str(path))
                self.encoder = lambda text: tekken.encode(text, bos=False, eos=False)
            elif isinstance(read.get("model"), dict):
                self.tokenizer, self.modes = Tokenizer.from_file(str(path)), [False, True]
            else:
                merges = path.with_name(path.name.replace("vocab", "merges").replace(".json", ".txt"))
                self.tokenizer = Tokenizer(models.BPE.from_file(str(path), str(merges)))
                self.tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        else:
            raise ValueError("not a tokenizer that another program reads")
        if self.tokenizer:
            self.tokenizer.no_truncation()
            self.tokenizer.no_padding()

    def added(self):
        return [t.content for t in self.tokenizer.get_added_tokens_decoder().values()] if self.tokenizer else []

    def encode(self, text, special):
        if self.encoder:
            return self.encoder(text)
        self.tokenizer.encode_special_tokens = not special
        return self.tokenizer.encode(text, add_special_tokens=False).ids


def tiktoken_encoder(content):
    """tiktoken's own definition that has the file's number of ranks."""
    import tiktoken
    from tiktoken_ext import openai_public
    ranks = {base64.b64decode(token + b"=" * (-len(token) % 4)): int(rank) for token, rank in (line.split() for line in content.splitlines() if line)}
    openai_public.load_tiktoken_bpe = openai_public.data_gym_to_mergeable_bpe_ranks = lambda *_, **__: ranks
    cl100k = openai_public.cl100k_base()["pat_str"]
    normal = lambda text: text
    if len(ranks) == 151643:  # Qwen's, which tiktoken lacks
        pattern, normal = cl100k.replace("{1,3}+", "").replace("{1,3}", ""), normalizers.NFC().normalize_str
    else:
        pattern = {199998: openai_public.o200k_base, 100256: openai_public.cl100k_base, 128000: openai_public.cl100k_base}.get(len(ranks), openai_public.r50k_base)()["pat_str"]
    encoding = tiktoken.Encoding("file", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    return lambda text: encoding.encode_ordinary(normal(text))


def rwkv_encoder(path):
    """The package's own, of which the rest imports torch."""
    found = pathlib.Path(importlib.metadata.distribution("rwkv").locate_file("rwkv/rwkv_tokenizer.py"))
    spec = importlib.util.spec_from_file_location("rwkv_tokenizer", found)
    package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    encoder = package.TRIE_TOKENIZER(str(path))
    return lambda text: encoder.encodeBytes(text.encode())


def ours(path, texts, special, folder):
    """The ids of each text, as documents of one preparation, and the folder's tokenizer.json."""
    documents = folder / "texts.jsonl"
    documents.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    out = folder / "prepared"
    args = [KOALA, "prepare", documents, "--tokenizer", path, "--valid", "0", "--test", "0", "--separator", "none", "--quiet", "--force", "--out", out]
    run = subprocess.run([*map(str, args), *["--special-in-text"] * special], capture_output=True, text=True)
    if run.returncode:
        raise ValueError((run.stderr or run.stdout).strip().splitlines()[-1])
    info = json.loads((out / "dataset.json").read_text())
    ids = array.array("H" if info["token_type"] == "uint16" else "I", (out / "train.bin").read_bytes())
    starts = array.array("Q", (out / "train.starts").read_bytes()).tolist() + [len(ids)]
    return [list(ids[a:b]) for a, b in zip(starts, starts[1:])], out / "tokenizer.json"


def difference(name, got, want, show):
    if got == want:
        return None
    at = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
    return f"{name}, id {at}: {[show(i) for i in got[at:at + 4]]}, expected {[show(i) for i in want[at:at + 4]]}"


def compare(path, texts, work):
    """Returns whether the file is taken, its kind, and what differs."""
    try:
        reference = Reference(path)
    except Exception as e:  # tokenizers raises Exception itself
        try:
            ours(path, {"": "a"}.values(), False, work)
        except ValueError as refusal:
            return False, "", [f"refused: {refusal} (there: {e})"]
        return True, "", [f"taken, and there it is refused: {e}"]
    texts = dict(texts)
    if reference.added():
        texts["its added tokens"] = "".join(random.Random(3).choice(["", " ", "x", "\n", "X "]) + t for t in reference.added() * 2)
    differs, kind = [], ""
    for special in reference.modes:
        # A text without a token is no document, so that the ids of the others stay in line.
        want = {name: reference.encode(text, special) for name, text in texts.items()}
        want = {name: ids for name, ids in want.items() if ids}
        try:
            got, written = ours(path, [texts[name] for name in want], special, work)
        except ValueError as refusal:
            return False, kind, [f"refused: {refusal}"]
        there = Tokenizer.from_file(str(written))
        there.no_truncation(), there.no_padding()
        kind = type(there.model).__name__
        if len(got) != len(want):
            differs.append(f"{len(got)} documents, expected {len(want)}")
            continue
        mode = " with special tokens" if special else ""
        for (name, ids), mine in zip(want.items(), got):
            differs.append(difference(name + mode, mine, ids, there.id_to_token))
            if reference.encoder:
                there.encode_special_tokens = True
                text = texts[name][:reference.longest]
                mine = mine if text == texts[name] else reference.encode(text, special)
                differs.append(difference(name + ", as written", mine, there.encode(text, add_special_tokens=False).ids, there.id_to_token))
    return True, kind, [d for d in differs if d]


def files_of(paths):
    for path in paths:
        found = sorted(p for p in path.iterdir() if p.suffix in (".json", ".model", ".tiktoken") or p.name.startswith("rwkv")) if path.is_dir() else [path]
        yield from found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--texts", nargs="*", type=pathlib.Path, default=[], help="text files and folders of them, beside the built-in texts")
    parser.add_argument("--no-tutorials", action="store_true", help="leave the classes of the tutorials out")
    parser.add_argument("--random", type=int, default=2_000_000, metavar="BYTES", help="length of the random text")
    args = parser.parse_args()
    texts = dict(TEXTS)
    for path in args.texts:
        for p in sorted(path.glob("*.txt")) if path.is_dir() else [path]:
            texts[p.name] = p.read_bytes().decode("utf-8")
    marks = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c))[0] == "M"]
    texts["every mark"] = " ".join(f"a{c}\u0316 e{c}\u0301{c}" for c in marks)
    texts["random"] = random_unicode(args.random, 7)
    taken = equal = total = wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        work, made = pathlib.Path(folder), pathlib.Path(folder) / "tutorials"
        made.mkdir()
        if not args.no_tutorials:
            tutorial_classes(made)
        for path in [*files_of([made]), *files_of(args.files)]:
            is_taken, kind, notes = compare(path, texts, work)
            total, taken, equal = total + 1, taken + is_taken, equal + (is_taken and not notes)
            wrong += bool(notes) and (is_taken or path.parent == made)
            print(f"{path.name:44} {kind:10} {'DIFFERS' if is_taken and notes else 'equal' if is_taken else 'refused'}", flush=True)
            for note in notes[:4]:
                print(f"    {note[:300]}", flush=True)
    print(f"{total} files: {taken} taken, {equal} with equal ids on {len(texts) + 1} texts")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
