"""Makes the fixtures of this folder with Hugging Face tokenizers.

  pip install tokenizers && python make.py

text.txt is made up: words of random syllables between every kind of white
space, mark and script that has ever been cut wrongly. bpe.json, wordpiece.json
and unigram.json are what the trainers learn from it; cases.json holds texts
and the ids they get.
"""
import json
import os
import random

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

random.seed(20)
ODD = ["\ufeff", "\0", "\r\n", "\r", "\u2028", "\u2029", "\u0085", "\u00a0", "\u3000", "\u2003", "\u200b",
       "\u200d", "e\u0301", "a\u0300\u0316", "\U0001F468\u200D\U0001F469\u200D\U0001F467", "\U0001F1E9\U0001F1EA",
       "\u202e", "\t", "  ", "   ", "\v", "\f", "\x1c", "'s", "'t", "'re", "'ve", "'ll", "'d", "'m", "'S", "\u2019s",
       "'", "''", "don't", "I'll", "rooms 1000", "12ab34", "\u0661\u0662", "\u2167", "\u00b2", "\u00bd", "\u4e2d\u6587",
       "\u65e5\u672c\u8a9e", "\u0e2a\u0e27\u0e31\u0e2a", "\u0915\u094d\u0937\u093f", "\u05d0\u05d1", "\ud7a3",
       "\U00010400", "\U00011380", "\U00016139", "\U0002EBF0", "\u1c89", "\ufffd", "\uffff", "\U0010FFFF", "\ue000",
       "<|endoftext|>", "<unk>", "_", "-", "--", "...", "!!", "$", "(", ")", "http://x.y/z?a=b&c=d", "\u00df", "\u0130"]
SYLLABLES = "ko a la tre e lea f the ing tion er an in st re on th se mo ru".split()
VOCABULARY = ["".join(random.choices(SYLLABLES, k=random.randint(1, 4))) for _ in range(400)]


def word():
    return VOCABULARY[min(int(random.expovariate(0.02)), len(VOCABULARY) - 1)]


def text(n):
    parts = []
    for _ in range(n):
        parts.append(random.choice(ODD) if random.random() < 0.12 else word())
        parts.append(random.choices([" ", "\n", "\n\n", ". ", ", ", ""], [70, 6, 2, 6, 6, 4])[0])
    return "".join(parts)


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "text.txt"), "w", newline="", encoding="utf-8") as f:
        f.write(text(4000))
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.post_processor = processors.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=700, min_frequency=2, special_tokens=["<|endoftext|>"],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    t.train([os.path.join(here, "text.txt")], trainer)
    t.save(os.path.join(here, "bpe.json"))
    all_kinds = {"bpe": t}
    lines = open(os.path.join(here, "text.txt"), newline="", encoding="utf-8").read().split("\n")

    t = all_kinds["wordpiece"] = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.normalizer = normalizers.BertNormalizer(lowercase=True)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.decoder = decoders.WordPiece()
    t.train_from_iterator(lines, trainers.WordPieceTrainer(vocab_size=500, special_tokens=["[UNK]", "[SEP]"], show_progress=False))
    t.save(os.path.join(here, "wordpiece.json"))

    t = all_kinds["unigram"] = Tokenizer(models.Unigram())
    t.pre_tokenizer = pre_tokenizers.Metaspace()
    t.decoder = decoders.Metaspace()
    t.train_from_iterator(lines, trainers.UnigramTrainer(vocab_size=400, unk_token="<unk>", special_tokens=["<unk>", "</s>"], show_progress=False))
    t.save(os.path.join(here, "unigram.json"))

    cases = ["", " ", "\n", "rooms 1000", "a" * 300, "ab" * 200, " " * 150, "'s'S''s", "x" + "\u0301" * 70] + ODD
    cases += [text(random.randint(1, 40)) for _ in range(60)]
    rows = []
    for case in cases:
        ids = {}
        for kind, t in all_kinds.items():
            t.encode_special_tokens = True
            ids[kind] = t.encode(case, add_special_tokens=False).ids
        rows.append(json.dumps({"text": case, "ids": ids}, separators=(",", ":")))
    with open(os.path.join(here, "cases.json"), "w", encoding="utf-8") as f:
        f.write("[\n" + ",\n".join(rows) + "\n]\n")


main()
