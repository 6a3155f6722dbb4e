"""Makes trained.json: what the trainers of Hugging Face tokenizers learn from text.txt.

  pip install tokenizers==0.23.3 && python make_trained.py

BPE is trained with train_from_iterator over documents of 3,000 characters, with the
default minimal frequency and with more special tokens; WordPiece and Unigram with
train, which reads the file by lines. WordPiece and Unigram come out differently from
run to run, because the library walks through hash tables: WordPiece numbers the
characters that continue words in their order, Unigram sums in it.
"""
import json
import os

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
PATH = os.path.join(HERE, "text.txt")
GPT4 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def vocabulary(t):
    vocab = t.get_vocab()
    return sorted(vocab, key=vocab.get)


def main():
    text = open(PATH, newline="", encoding="utf-8").read()
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(GPT4), "isolated"),
                                                 pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    bpe.train_from_iterator([text[i:i + 3000] for i in range(0, len(text), 3000)], trainers.BpeTrainer(
        vocab_size=900, special_tokens=["<|endoftext|>", "<|user|>", "<|bot|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    wordpiece = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    wordpiece.normalizer = normalizers.BertNormalizer(lowercase=True)
    wordpiece.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    wordpiece.train([PATH], trainers.WordPieceTrainer(
        vocab_size=600, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False))
    unigram = Tokenizer(models.Unigram())
    unigram.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex("\n+"), "isolated"),
                                                     pre_tokenizers.Metaspace(prepend_scheme="first")])
    unigram.train([PATH], trainers.UnigramTrainer(
        vocab_size=500, special_tokens=["<unk>", "<|endoftext|>"], unk_token="<unk>", show_progress=False))
    json.dump({
        "bpe": {"vocab": vocabulary(bpe), "merges": json.loads(bpe.to_str())["model"]["merges"]},
        "wordpiece": vocabulary(wordpiece),
        "unigram": json.loads(unigram.to_str())["model"]["vocab"],
    }, open(os.path.join(HERE, "trained.json"), "w"), separators=(",", ":"))


if __name__ == "__main__":
    main()
