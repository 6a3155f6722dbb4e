"""make.py: tiny random models of transformers in which every number of config.json matters, and what
transformers computes with them: losses and greedy texts.

    make peers && PYTHONPATH=<the peers' folder> python3 lm/huggingface/testdata/make.py
"""
import json, math, os, shutil
import torch, transformers
from safetensors.torch import load_file, save_file

HERE = os.path.dirname(os.path.abspath(__file__))
V, CONTEXT, TEXT, PROMPT, NEW = 29, 32, 30, 6, 24
torch.set_num_threads(1)

GPT2 = dict(vocab_size=V, n_positions=CONTEXT, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
LLAMA = dict(vocab_size=V, max_position_embeddings=CONTEXT, hidden_size=16, intermediate_size=20, num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-2, bos_token_id=0, eos_token_id=0, pad_token_id=0)
NEOX = dict(vocab_size=V, max_position_embeddings=CONTEXT, hidden_size=16, intermediate_size=20, num_hidden_layers=2,
            num_attention_heads=2, layer_norm_eps=1e-2, bos_token_id=0, eos_token_id=0)
rope = lambda kind, **more: dict(rope_parameters=dict(rope_type=kind, rope_theta=200.0, **more))

MODELS = {
    "gpt2": ("GPT2", GPT2),
    "gpt2-relu": ("GPT2", GPT2 | dict(activation_function="relu", layer_norm_epsilon=1e-2, n_inner=20, tie_word_embeddings=False)),
    "gpt2-gelu": ("GPT2", GPT2 | dict(activation_function="gelu")),
    "gpt2-silu": ("GPT2", GPT2 | dict(activation_function="silu")),
    "gpt2-tanh": ("GPT2", GPT2 | dict(activation_function="tanh")),
    "llama": ("Llama", LLAMA | rope("default")),
    "llama-tied": ("Llama", LLAMA | dict(tie_word_embeddings=True, num_key_value_heads=1, hidden_act="relu") | rope("default")),
    "llama-biases": ("Llama", LLAMA | dict(attention_bias=True, mlp_bias=True, head_dim=6, hidden_act="gelu", num_key_value_heads=4) | rope("default")),
    "llama-linear": ("Llama", LLAMA | dict(attention_bias=True) | rope("linear", factor=3.0)),
    "llama-dynamic": ("Llama", LLAMA | dict(mlp_bias=True) | rope("dynamic", factor=3.0)),
    "llama-llama3": ("Llama", LLAMA | rope("llama3", factor=8.0, low_freq_factor=0.7, high_freq_factor=3.0, original_max_position_embeddings=12)),
    "llama-yarn": ("Llama", LLAMA | rope("yarn", factor=4.0, beta_fast=3.0, beta_slow=0.5, original_max_position_embeddings=8)),
    "llama-yarn-exact": ("Llama", LLAMA | rope("yarn", factor=4.0, beta_fast=3.0, beta_slow=0.5, truncate=False, attention_factor=1.3, original_max_position_embeddings=8)),
    "mistral": ("Mistral", LLAMA | dict(sliding_window=5) | rope("default")),
    "mistral-all": ("Mistral", LLAMA | dict(sliding_window=None) | rope("default")),
    "qwen2": ("Qwen2", LLAMA | rope("default")),
    "qwen2-window": ("Qwen2", LLAMA | dict(use_sliding_window=True, sliding_window=7, max_window_layers=1) | rope("default")),
    "qwen3": ("Qwen3", LLAMA | dict(head_dim=6, tie_word_embeddings=True) | rope("default")),
    "smollm3": ("SmolLM3", LLAMA | dict(num_hidden_layers=4, no_rope_layer_interval=3, tie_word_embeddings=True) | rope("default")),
    "smollm3-window": ("SmolLM3", LLAMA | dict(num_hidden_layers=3, no_rope_layers=[0, 1, 0], use_sliding_window=True, sliding_window=4, attention_bias=True) | rope("default")),
    "neox": ("GPTNeoX", NEOX | rope("default", partial_rotary_factor=0.5)),
    "neox-sequential": ("GPTNeoX", NEOX | dict(use_parallel_residual=False, attention_bias=False, hidden_act="gelu_new", tie_word_embeddings=True) | rope("linear", partial_rotary_factor=0.25, factor=2.0)),
}


def build(name, family, fields):
    torch.manual_seed(len(name) + sum(map(ord, name)))
    model = getattr(transformers, family + ("LMHeadModel" if family == "GPT2" else "ForCausalLM"))(getattr(transformers, family + "Config")(**fields))
    with torch.no_grad():
        for n, p in model.named_parameters():
            if p.dim() > 1:
                p.normal_(0, 1.0 if "emb" in n or "wte" in n or "wpe" in n else 2.0 / math.sqrt(p.shape[-1]))
            elif "norm" in n or "ln_" in n:
                p.normal_(0 if n.endswith("bias") else 1, 0.3)
            else:
                p.normal_(0, 0.5)
    return model.eval()


def measure(model):
    """The mean loss of one text, and greedy continuations of prompts that differ in their first token."""
    ids = torch.tensor([[(7 * i * i + 3 * i) % V for i in range(TEXT)]])
    with torch.no_grad():
        loss = model(ids, labels=ids).loss.item()
        texts = []
        for start in (1, 2, 3):
            text, margin = [start] + [(5 * i) % V for i in range(PROMPT - 1)], math.inf
            for _ in range(NEW):
                best = torch.topk(model(torch.tensor([text])).logits[0, -1], 2).values
                margin = min(margin, (best[0] - best[1]).item())
                text.append(int(model(torch.tensor([text])).logits[0, -1].argmax()))
            assert margin > 1e-4, margin
            texts.append(text)
    return dict(loss=loss, texts=texts)


def version4(config):
    """config.json in the words of transformers 4."""
    p = config.pop("rope_parameters", None)
    if p:
        config["rope_theta"] = p.pop("rope_theta")
        share = p.pop("partial_rotary_factor", None)
        if config["model_type"] == "gpt_neox":
            config["rotary_pct"], config["rotary_emb_base"] = share, config.pop("rope_theta")
        config["rope_scaling"] = None if p["rope_type"] == "default" else p
    config["torch_dtype"], config["transformers_version"] = config.pop("dtype", None), "4.46.0"


expected = {}
for name, (family, fields) in MODELS.items():
    folder = os.path.join(HERE, name)
    shutil.rmtree(folder, ignore_errors=True)
    model = build(name, family, fields)
    model.save_pretrained(folder)
    expected[name] = measure(transformers.AutoModelForCausalLM.from_pretrained(folder))
    path = os.path.join(folder, "config.json")
    config = json.load(open(path))
    version4(config)
    json.dump(config, open(os.path.join(folder, "config-4.json"), "w"), indent=1)
    os.rename(path, path + ".5")
    shutil.copy(os.path.join(folder, "config-4.json"), path)
    again = measure(transformers.AutoModelForCausalLM.from_pretrained(folder))
    assert again == expected[name], (name, "in the words of version 4", again, expected[name])
    os.rename(path + ".5", path)

# Shards, other types, and a tied layer that is stored and differs.
model = build("llama", *MODELS["llama"])
for name, kw in {"llama-shards": dict(max_shard_size="4KB"), "llama-bfloat16": {}, "gpt2-float16": {}}.items():
    folder = os.path.join(HERE, name)
    shutil.rmtree(folder, ignore_errors=True)
    m = build(name, *MODELS["gpt2" if "gpt2" in name else "llama"])
    dtype = dict(bfloat16=torch.bfloat16, float16=torch.float16).get(name.split("-")[1])
    (m.to(dtype) if dtype else m).save_pretrained(folder, **kw)
    expected[name] = measure(transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32))
folder = os.path.join(HERE, "llama-tied-differs")
shutil.rmtree(folder, ignore_errors=True)
shutil.copytree(os.path.join(HERE, "llama-tied"), folder)
os.remove(os.path.join(folder, "config-4.json"))
weights = load_file(os.path.join(folder, "model.safetensors"))
weights["lm_head.weight"] = torch.randn_like(weights["model.embed_tokens.weight"])
save_file(weights, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
expected["llama-tied-differs"] = measure(transformers.AutoModelForCausalLM.from_pretrained(folder))

for folder in os.listdir(HERE):
    generation = os.path.join(HERE, folder, "generation_config.json")
    if os.path.exists(generation):
        os.remove(generation)
json.dump(expected, open(os.path.join(HERE, "expected.json"), "w"), indent=0)
print({n: round(e["loss"], 4) for n, e in expected.items()})
