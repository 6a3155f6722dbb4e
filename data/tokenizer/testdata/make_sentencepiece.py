"""make_sentencepiece.py: small .model files of SentencePiece with a character map, and the ids that
SentencePiece 0.2.3 gives.

    python3 -m pip install sentencepiece==0.2.3 && python3 make_sentencepiece.py
"""
import array, base64, hashlib, io, json, os, struct, tempfile
import sentencepiece

HERE = os.path.dirname(os.path.abspath(__file__))
RULES = {"\r": " ", "\n": " ", "\t": " ", "\ufb01": "fi", "z\u0301": "\u017a", "a\u0300": "\u00e0", "a\u0302": "\u00e2", "\u00e2\u0301": "\u1ea5",
         "a\u0302\u0301": "\u1ea5", "\uff21": "A", "\u200b": ""}
TEXTS = ["a fine caf\u00e9", "\ufb01ne z\u0301\u0301z", "a\u0300\u0316a\u0316\u0300 a\u0302\u0301\u0302", "a\r\n\r\nb \t\n c", "((a)) ( (fine)x", "</s><s><unk> <0x41> a",
         " ", "  a   b  ", "\U00018249\U00018249  \U00018249  fine", "\uff21\u200b(\u200b)z", "\u4e2d \u4e2d\u6587(\u6587"] + ["\U00018249fine  " * 40 + "(a  fine)" * 40]
# A long text, whose sum of scores SentencePiece starts again at -100,000.
WORDS, LONG, at = ["fine", " ", "  ", "(", ")", "a", "zebra", " lin", "e", "wide and ", "the caf", "  and", "b"], "", 1
for _ in range(120000):
    at = (at * 1103515245 + 12345) % 2**31
    LONG += WORDS[(at >> 16) % len(WORDS)]
lines = ["a fine line, and another fine line.", "(fine) \u017a \u00e0 \u1ea5 \u00e2", "the cafe is fine  and  wide", "zebra crossing a line (b)"] * 50


def varint(data, at):
    value = shift = 0
    while True:
        value, shift, at = value | (data[at] & 127) << shift, shift + 7, at + 1
        if data[at - 1] < 128:
            return value, at


def tied(model):
    """The model with scores in proportion to the pieces' characters, so that rounding decides between many
    segmentations. A piece is field 1, its text and score are fields 1 and 2 of it."""
    out, at = b"", 0
    while at < len(model):
        start = at
        key, at = varint(model, at)
        size, at = varint(model, at)
        if key != 10:
            return out + model[start:]
        piece, at = bytearray(model[at:at + size]), at + size
        length, text = varint(piece, 1)
        place = text + length
        if piece[place] == 21 and struct.unpack_from("<f", piece, place + 1)[0] != 0:
            struct.pack_into("<f", piece, place + 1, -2.1716766 * len(piece[text:place].decode()))
        out += model[start:at - size] + piece
    return out


made = []
with tempfile.TemporaryDirectory() as folder:
    tsv = os.path.join(folder, "rules.tsv")
    with open(tsv, "w") as f:
        for a, b in RULES.items():
            f.write(" ".join("%X" % ord(c) for c in a) + "\t" + " ".join("%X" % ord(c) for c in b) + "\n")
    for name, options in {
        "unigram": dict(remove_extra_whitespaces=False, add_dummy_prefix=False, byte_fallback=True),
        "unigram, ties": dict(remove_extra_whitespaces=False, add_dummy_prefix=False, byte_fallback=True),
        "unigram, extra spaces removed": dict(user_defined_symbols=[]),
        "bpe": dict(model_type="bpe", byte_fallback=True, user_defined_symbols=[]),
        "bpe, symbols": dict(model_type="bpe", byte_fallback=True, remove_extra_whitespaces=False, add_dummy_prefix=False),
        "unigram, no character map": dict(normalization_rule_name="identity", byte_fallback=True, user_defined_symbols=[]),
    }.items():
        model = io.BytesIO()
        options = dict(user_defined_symbols=["(", ")"]) | options
        rules = {} if "normalization_rule_name" in options else dict(normalization_rule_tsv=tsv)
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=model, vocab_size=60 + 256 * options.get("byte_fallback", 0),
                                                 minloglevel=2, hard_vocab_limit=False, **rules, **options)
        proto = tied(model.getvalue()) if "ties" in name else model.getvalue()
        p = sentencepiece.SentencePieceProcessor(model_proto=proto)
        long = array.array("I", p.encode(LONG))
        made.append(dict(name=name, model=base64.b64encode(proto).decode(), ids=[p.encode(t) for t in TEXTS],
                         long=hashlib.sha256(long.tobytes()).hexdigest()))
json.dump(dict(texts=TEXTS, models=made), open(os.path.join(HERE, "sentencepiece.json"), "w"), indent=0)
