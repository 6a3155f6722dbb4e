"""Holds published kinds of models against transformers: loss, greedy text, training's start, export.

  python compare_models.py [--verbose] [FOLDER...]

It makes random models of each family, with weights so wide that every number of
config.json matters, as transformers 5 writes them, in the words of transformers 4, in
shards and in bfloat16, with a tokenizer trained here. For each folder

  loss    `koala-lm eval FOLDER TEXT` against transformers' loss of the same windows
  greedy  24 tokens of `koala-lm generate FOLDER --temperature 0` against the likeliest tokens
  init    the loss after `train --init FOLDER` and one step of the learning rate 1e-30
  export  that run exported and loaded by transformers: loss and text once more

Folders on the command line are held the same way, instead. A folder that koala-lm refuses
is listed with its reason and counts as wrong only if it was made here. Exits with 1 if a
loss differs by 1e-5 or a text differs.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import warnings

warnings.filterwarnings("ignore")
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.set_num_threads(1)

ROOT = pathlib.Path(__file__).resolve().parent.parent
KOALA = os.environ.get("KOALA_LM", str(ROOT / "bin" / "koala-lm"))
TEXT = ((ROOT / "docs" / "training.md").read_text() + (ROOT / "docs" / "data.md").read_text())[:3000]
PROMPT, NEW, CONTEXT, VOCAB = "The same seed gives", 24, 64, 320

GPT2 = dict(vocab_size=VOCAB, n_positions=CONTEXT, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0)
LLAMA = dict(vocab_size=VOCAB, max_position_embeddings=CONTEXT, hidden_size=32, intermediate_size=48, num_hidden_layers=3,
             num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-3, bos_token_id=0, eos_token_id=0, pad_token_id=0)
NEOX = dict(vocab_size=VOCAB, max_position_embeddings=CONTEXT, hidden_size=32, intermediate_size=48, num_hidden_layers=3,
            num_attention_heads=4, layer_norm_eps=1e-3, bos_token_id=0, eos_token_id=0)


def rope(kind="default", **more):
    return dict(rope_parameters=dict(rope_type=kind, rope_theta=300.0, **more))


LLAMA3 = rope("llama3", factor=8.0, low_freq_factor=0.7, high_freq_factor=3.0, original_max_position_embeddings=24)
YARN = rope("yarn", factor=4.0, beta_fast=3.0, beta_slow=0.5, original_max_position_embeddings=16)

# family in the table: class, and its models.
FAMILIES = {
    "GPT-2": ("GPT2", [
        GPT2, GPT2 | dict(tie_word_embeddings=False, n_inner=80, activation_function="gelu", layer_norm_epsilon=1e-2),
        GPT2 | dict(reorder_and_upcast_attn=True, n_head=1, activation_function="relu"),
        GPT2 | dict(n_head=8, n_layer=1, activation_function="silu", n_inner=7)]),
    "Llama 1, 2": ("Llama", [
        LLAMA | rope(), LLAMA | dict(num_key_value_heads=4, rms_norm_eps=1e-6) | rope(), LLAMA | rope("linear", factor=3.0),
        LLAMA | dict(attention_bias=True, mlp_bias=True) | rope("dynamic", factor=2.0),
        LLAMA | dict(head_dim=12, num_key_value_heads=1, hidden_act="gelu") | rope()]),
    "Llama 3.x": ("Llama", [
        LLAMA | LLAMA3, LLAMA | dict(tie_word_embeddings=True, head_dim=6) | LLAMA3, LLAMA | dict(mlp_bias=True) | YARN,
        LLAMA | dict(attention_bias=True) | rope("yarn", factor=4.0, truncate=False, attention_factor=1.3, original_max_position_embeddings=16),
        LLAMA | rope("yarn", factor=4.0, mscale=0.7, mscale_all_dim=1.1, original_max_position_embeddings=16)]),
    "Mistral": ("Mistral", [
        LLAMA | dict(sliding_window=9) | rope(), LLAMA | dict(sliding_window=None, num_key_value_heads=1) | rope(),
        LLAMA | dict(sliding_window=500, head_dim=10) | rope("linear", factor=2.0)]),
    "Qwen 2": ("Qwen2", [
        LLAMA | rope(), LLAMA | dict(use_sliding_window=True, sliding_window=7, max_window_layers=1) | rope(),
        LLAMA | dict(use_sliding_window=True, sliding_window=6, layer_types=["sliding_attention", "full_attention", "sliding_attention"]) | YARN,
        LLAMA | dict(tie_word_embeddings=True, num_key_value_heads=4) | rope()]),
    "Qwen 3": ("Qwen3", [
        LLAMA | dict(head_dim=12, tie_word_embeddings=True) | rope(), LLAMA | dict(head_dim=8, attention_bias=True) | YARN,
        LLAMA | dict(head_dim=4, num_key_value_heads=1, use_sliding_window=True, sliding_window=5, max_window_layers=2) | rope()]),
    "SmolLM 2": ("Llama", [
        LLAMA | dict(num_attention_heads=8, num_key_value_heads=4, tie_word_embeddings=True, rms_norm_eps=1e-5) | dict(rope_parameters=dict(rope_type="default", rope_theta=100000.0))]),
    "SmolLM 3": ("SmolLM3", [
        LLAMA | dict(num_hidden_layers=5, tie_word_embeddings=True) | rope(), LLAMA | dict(no_rope_layer_interval=2, tie_word_embeddings=False) | YARN,
        LLAMA | dict(no_rope_layers=[0, 1, 1], use_sliding_window=True, sliding_window=6, attention_bias=True) | rope(),
        LLAMA | dict(no_rope_layer_interval=3, use_sliding_window=True, sliding_window=8, mlp_bias=True,
                     layer_types=["sliding_attention", "full_attention", "sliding_attention"]) | rope()]),
    "GPT-NeoX, Pythia": ("GPTNeoX", [
        NEOX | rope(partial_rotary_factor=0.25), NEOX | dict(use_parallel_residual=False) | rope(partial_rotary_factor=1.0),
        NEOX | dict(tie_word_embeddings=True, attention_bias=False, hidden_act="gelu_new") | rope("linear", partial_rotary_factor=0.5, factor=2.0)]),
}


def tokenizer():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer, t.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    t.train_from_iterator([TEXT], trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    return t


def widen(model, seed):
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() > 1:
                p.normal_(0, 1.0 if "emb" in name or "wte" in name or "wpe" in name else 2.0 / p.shape[-1] ** 0.5)
            elif "norm" in name or "ln_" in name:
                p.normal_(0 if name.endswith("bias") else 1, 0.3)
            else:
                p.normal_(0, 0.5)
    return model.eval()


def version4(path):
    """Rewrites config.json in the words of transformers 4."""
    config = json.loads(path.read_text())
    p = config.pop("rope_parameters", None)
    if p:
        config["rope_theta"], share = p.pop("rope_theta"), p.pop("partial_rotary_factor", None)
        if config["model_type"] == "gpt_neox":
            config["rotary_pct"], config["rotary_emb_base"] = share, config.pop("rope_theta")
        config["rope_scaling"] = None if p["rope_type"] == "default" else p
    config["torch_dtype"], config["transformers_version"] = config.pop("dtype", None), "4.46.0"
    path.write_text(json.dumps(config, indent=1))


def make(folder):
    """Writes all models; yields family and folder."""
    words, seed = tokenizer(), 0
    for family, (name, shapes) in FAMILIES.items():
        for shape in shapes:
            seed += 1
            kind = getattr(transformers, name + ("LMHeadModel" if name == "GPT2" else "ForCausalLM"))
            model = widen(kind(getattr(transformers, name + "Config")(**shape)), seed)
            for form in ["5", "4"] + (["shards", "bfloat16"] if shape is shapes[-1] else []):
                to = folder / f"{name.lower()}-{seed}-{form}"
                if form == "bfloat16":
                    model = model.to(torch.bfloat16)
                model.save_pretrained(to, **(dict(max_shard_size="20KB") if form == "shards" else {}))
                words.save(str(to / "tokenizer.json"))
                if form == "4":
                    version4(to / "config.json")
                yield family, to


def koala(*args, where):
    done = subprocess.run([KOALA, *map(str, args)], cwd=where, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return done.stdout


def theirs(folder, words, context):
    """Loss of TEXT in windows of the context, and the greedy text after PROMPT with its smallest margin."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids, total = words.encode(TEXT, add_special_tokens=False).ids, 0.0
    with torch.no_grad():
        for at in range(0, len(ids) - 1, context):
            x = torch.tensor([ids[at:at + context][:len(ids) - 1 - at]])
            y = torch.tensor(ids[at + 1:at + 1 + x.shape[1]])
            total += torch.nn.functional.cross_entropy(model(x, use_cache=False).logits[0], y, reduction="sum").item()
        text, margin = words.encode(PROMPT, add_special_tokens=False).ids, float("inf")
        start, ends = len(text), model.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        for _ in range(NEW):
            best = torch.topk(model(torch.tensor([text]), use_cache=False).logits[0, -1], 2)
            margin = min(margin, (best.values[0] - best.values[1]).item())
            if int(best.indices[0]) in ends:
                break
            text.append(int(best.indices[0]))
    return total / (len(ids) - 1), words.decode(text[start:], skip_special_tokens=False), margin


def ours(what, where):
    loss = json.loads(koala("eval", *what, "text.txt", "--format", "json", "--threads", 1, where=where))["loss"]
    text = json.loads(koala("generate", *what, "--prompt", PROMPT, "--temperature", 0, "--tokens", NEW, "--seed", 1,
                            "--format", "json", "--threads", 1, where=where))["text"]
    return loss, text


def hold(folder, where):
    """Returns the differences of losses and whether texts are equal, by column."""
    words = Tokenizer.from_file(str(folder / "tokenizer.json"))
    loss, text = ours([folder], where)
    config = transformers.AutoConfig.from_pretrained(folder)
    context = config.max_position_embeddings
    want, want_text, margin = theirs(folder, words, context)
    got = {"loss": abs(loss - want), "greedy": text == want_text or margin < 1e-4}
    koala("prepare", "text.txt", "--tokenizer", folder / "tokenizer.json", "--valid", "0", "--test", "0", "--out", "data", "--force", where=where)
    koala("train", "--data", "data", "--init", folder, "--steps", 1, "--set", "train.batch=1", "--set", "optimizer.kind=sgd", "--set",
          "optimizer.lr=1e-30", "--name", "init", "--threads", 1, "--quiet", where=where)
    loss, text = ours(["init"], where)
    got["init"] = abs(loss - want)
    shutil.rmtree(where / "exported", ignore_errors=True)
    koala("export", "init", "--to", "huggingface", "--out", "exported", where=where)
    back, back_text, _ = theirs(where / "exported", words, context)
    loss, text = ours([where / "exported"], where)
    got["export"] = max(abs(back - want), abs(loss - want))
    got["greedy"] = got["greedy"] and (margin < 1e-4 or text == back_text == want_text)
    return got


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--verbose", action="store_true", help="a line for each folder")
    flags.add_argument("folders", nargs="*", type=lambda p: pathlib.Path(p).resolve())
    args = flags.parse_args()
    table, wrong = {}, 0
    with tempfile.TemporaryDirectory() as scratch:
        where = pathlib.Path(scratch)
        (where / "text.txt").write_text(TEXT)
        for family, folder in [(f.name, f) for f in args.folders] or make(where):
            try:
                got = hold(folder, where)
            except RuntimeError as refused:
                print(f"{folder.name}: {refused}", flush=True)
                wrong += not args.folders
                continue
            bad = max(got["loss"], got["init"], got["export"]) > 1e-5 or not got["greedy"]
            wrong += bad
            if args.verbose or bad:
                print(folder.name, {k: v if isinstance(v, bool) else float(f"{v:.1e}") for k, v in got.items()}, flush=True)
            table.setdefault(family, []).append(got)
            if not args.folders:
                shutil.rmtree(folder)
    print("| family | folders | loss | 24 greedy tokens | --init, a step of 0 | export and back |\n| --- | ---: | ---: | --- | ---: | ---: |")
    for family, rows in table.items():
        same = sum(r["greedy"] for r in rows)
        print(f"| {family} | {len(rows)} | " + " | ".join([
            f"{max(r['loss'] for r in rows):.0e}", "equal" if same == len(rows) else f"{same} equal",
            f"{max(r['init'] for r in rows):.0e}", f"{max(r['export'] for r in rows):.0e}"]) + " |")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
