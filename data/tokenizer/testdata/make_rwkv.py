"""make_rwkv.py: a small vocabulary in the format of RWKV World's, and the ids that the
package rwkv gives for some texts.

    python3 -m pip install --no-deps rwkv==0.8.32 && python3 make_rwkv.py
"""
import importlib.util, json, os, sys, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
# The module alone: the package imports torch.
path = next(os.path.join(p, "rwkv", "rwkv_tokenizer.py") for p in sys.path if os.path.exists(os.path.join(p, "rwkv", "rwkv_tokenizer.py")))
spec = importlib.util.spec_from_file_location("rwkv_tokenizer", path)
package = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)

TOKENS = [chr(b) if b < 128 else bytes([b]) for b in range(256)]
TOKENS += ["\n\n", "\r\n", "  ", "    ", "th", "the", " the", "ab", "aab", "aaab", "bba", "it's", 'say "', "\\n", "\x7f\x7f", "\u00e9t", "\u00a0 ",
           "\u200b\u200b", "\u4e2d\u6587", "\u4e2d", "\U0001f600", "<|", "end_of_text", "=" * 40, b"\xe4\xb8", b"\xad\xe6", b"\xf0\x9f\x98", b"\xff\xfe"]
LINES = [f"{i + 1} {token!r} {len(token.encode() if isinstance(token, str) else token)}" for i, token in enumerate(TOKENS)]
LINES[-1] = LINES[-1].replace("284 ", "300 ")  # ids may have gaps
TEXTS = ["the theme  of      the day\n\n\nit's", 'say "say \\n"\r\n\r', "aaaab aab abba baabbabab", "\u4e2d\u6587\u4e2d \u4e2e\u6587 \U0001f600\U0001f601",
         "\u00e9t\u00e9 \u00a0 x\u200b\u200b\u200b", "=" * 95, "<|rwkv_tokenizer_end_of_text|> <|end_of_text|>", "\x00\x01\x7f\x7f\x7f", ""]

if __name__ == "__main__":
    vocabulary = "\n".join(LINES) + "\n"
    name = os.path.join(tempfile.mkdtemp(), "vocab.txt")
    with open(name, "w", encoding="utf-8") as f:
        f.write(vocabulary)
    reference = package.TRIE_TOKENIZER(name)
    cases = [{"text": text, "ids": reference.encodeBytes(text.encode())} for text in TEXTS]
    with open(os.path.join(HERE, "rwkv.json"), "w") as f:
        json.dump({"made": "make_rwkv.py, rwkv 0.8.32", "vocabulary": vocabulary, "cases": cases}, f, indent=1)
