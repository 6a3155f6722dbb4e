"""Times generation by koala-lm and by transformers, on the same weights, in turn.

Random models with a prompt of 500 tokens, greedy, one text and 32 side by side. Both
read the prompt, then make new tokens with a cache of keys and values. The time of
koala-lm is that of the program less that of one new token after a prompt of one, which is
mostly start and loading; of transformers, that of `model.generate` after one call to warm
up. The texts are compared too.
"""

import argparse
import json
import os
import pathlib
import statistics
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch
import transformers

import compare_models

PROMPT, CONTEXT = 500, 1024
GPT = dict(vocab_size=320, n_positions=CONTEXT, n_embd=384, n_layer=6, n_head=6, bos_token_id=0, eos_token_id=0)
LLAMA = dict(vocab_size=320, max_position_embeddings=CONTEXT, hidden_size=384, intermediate_size=1024, num_hidden_layers=6,
             num_attention_heads=6, num_key_value_heads=2, bos_token_id=0, eos_token_id=0, pad_token_id=0)


def prompts(words):
    """Different texts of exactly PROMPT tokens, each in one line."""
    ids, found = words.encode((compare_models.TEXT * 8).replace("\n", " "), add_special_tokens=False).ids, []
    for at in range(0, len(ids) - PROMPT):
        text = words.decode(ids[at:at + PROMPT])
        if len(found) < 32 and words.encode(text, add_special_tokens=False).ids == ids[at:at + PROMPT]:
            found.append((text, ids[at:at + PROMPT]))
    return found


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--threads", type=int, default=2)
    flags.add_argument("--tokens", type=int, default=100)
    flags.add_argument("--rounds", type=int, default=3)
    flags.add_argument("--models", nargs="*", default=["gpt", "llama"], choices=["gpt", "llama"])
    args = flags.parse_args()
    torch.set_num_threads(args.threads)
    print("| model | texts | transformers tok/s | koala-lm tok/s | ratio | texts equal |\n| --- | ---: | ---: | ---: | ---: | ---: |", flush=True)
    for name in args.models:
        model = {"gpt": lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT)),
                 "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA))}[name]()
        model = compare_models.widen(model, 1)
        with torch.no_grad():
            model.lm_head.weight[0] = 0  # the token that ends a text is never the likeliest
        with tempfile.TemporaryDirectory() as scratch:
            where = pathlib.Path(scratch)
            model.save_pretrained(where / "model")
            words = compare_models.tokenizer()
            words.save(str(where / "model" / "tokenizer.json"))
            all_prompts = prompts(words)

            def ours(lines, tokens):
                (where / "prompts.txt").write_text("\n".join(lines) + "\n")
                started = time.perf_counter()
                out = compare_models.koala("generate", where / "model", "--prompts", "prompts.txt", "--tokens", tokens, "--temperature", 0,
                                           "--seed", 1, "--format", "json", "--threads", args.threads, where=where)
                return time.perf_counter() - started, [json.loads(line) for line in out.splitlines()]

            def theirs(ids):
                started = time.perf_counter()
                with torch.no_grad():
                    out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=args.tokens,
                                         min_new_tokens=args.tokens, pad_token_id=0)
                return time.perf_counter() - started, out[:, ids.shape[1]:]

            for texts in (1, 32):
                lines, ids = [p for p, _ in all_prompts[:texts]], torch.tensor([i for _, i in all_prompts[:texts]])
                theirs(ids[:, :10])
                speeds = []
                for _ in range(args.rounds):
                    start, _ = ours(["a"], 1)
                    took, made = ours(lines, args.tokens)
                    peer, wanted = theirs(ids)
                    tokens = sum(m["tokens"] for m in made)
                    speeds.append((texts * args.tokens / peer, tokens / (took - start)))
                same = sum(m["text"] == words.decode(w.tolist(), skip_special_tokens=False) for m, w in zip(made, wanted))
                print("| {} | {} | {:,.0f} | {:,.0f} | {:.2f}x | {} |".format(
                    f"{name}, 6 x 384", texts, statistics.median(t for t, _ in speeds), statistics.median(o for _, o in speeds),
                    statistics.median(o / t for t, o in speeds), same), flush=True)


if __name__ == "__main__":
    main()
