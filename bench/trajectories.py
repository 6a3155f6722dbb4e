"""Records training in PyTorch as test data: python3 trajectories.py ../lm/testdata (README.md there says what is in it).

Three small models, from stored weights, over stored ids, without dropout, 100 steps each with SGD, AdamW and KOALA-V,
in float32 and in float64: the second says how much of a difference is rounding.
"""

import copy
import json
import pathlib
import sys

import peer
import torch
import torch.nn.functional as F
from lstm_model import LSTM
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

STEPS, BATCH, VOCAB = 100, 4, 200
PROBED = (0, 1, 9, 49, 99)  # steps whose gradients are recorded tensor by tensor

# Large enough that the weights move far, small enough that rounding does not grow into
# another trajectory; clipping is active.
OPTIMIZERS = {
    "sgd": {"lr": {"lstm": 20.0, "gpt2": 0.5, "llama": 0.5}, "clip": 0.15},
    "adamw": {"lr": {"lstm": 1e-2, "gpt2": 2e-3, "llama": 2e-3}, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.1},
    "koala-v": {"lr": {"lstm": 3.0, "gpt2": 0.2, "llama": 0.15}, "sigma": 0.1, "q": 1.0, "alpha_r": 0.9},
}


def learnable_ids(length):
    """BATCH texts in which a word mostly decides the next, so that training has something to find."""
    state, rows = 12345, []
    for _ in range(BATCH):
        row, word = [], 0
        for _ in range(length):
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            draw = state >> 33
            word = (word * 7 + 3 + draw % 3) % VOCAB if draw % 5 else draw % 1000 * draw % 1009 % VOCAB
            row.append(word)
        rows.append(row)
    return rows


class LSTMRun:
    """Hidden state carried from step to step, as language models are trained."""

    window = 8

    def __init__(self, model):
        self.model = model
        self.state = tuple(s.to(model.decoder.bias.dtype) for s in model.zero_state(BATCH))

    def losses(self, x, y):
        logits, state = self.model(x.T, self.state)
        self.state = tuple(s.detach() for s in state)
        return F.cross_entropy(logits, y.T.flatten(), reduction="none")


class TransformerRun:
    window = 16

    def __init__(self, model):
        self.model = model

    def losses(self, x, y):
        return F.cross_entropy(self.model(x).logits.flatten(0, 1), y.flatten(), reduction="none")


def small_models():
    torch.manual_seed(7)
    lstm = LSTM(VOCAB, embed=32, hidden=32, layers=2, dropout=0.0)
    shape = dict(vocab_size=VOCAB, tie_word_embeddings=True, bos_token_id=None, eos_token_id=None)
    gpt2 = GPT2LMHeadModel(GPT2Config(
        n_positions=16, n_embd=32, n_layer=2, n_head=4, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, **shape))
    llama = LlamaForCausalLM(LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=16, rms_norm_eps=1e-5, **shape))
    # Wider than the published initialisation, and no bias zero or gain one: every
    # tensor shows in the loss.
    for model in (lstm, gpt2, llama):
        for p in model.parameters():
            with torch.no_grad():
                p.add_(torch.randn_like(p), alpha=0.1)
    return {"lstm": (LSTMRun, lstm), "gpt2": (TransformerRun, gpt2), "llama": (TransformerRun, llama)}


def named_parameters(model):
    """Tied tensors once, under the name that is saved."""
    return {n: p for n, p in model.named_parameters() if n not in ("decoder.weight", "lm_head.weight")}


def train(run, ids, kind, lr, probe):
    params = named_parameters(run.model)
    o = OPTIMIZERS[kind]
    if kind == "sgd":
        optimizer = torch.optim.SGD(params.values(), lr=lr)
    elif kind == "adamw":
        # Matrices decay, biases and gains do not.
        optimizer = torch.optim.AdamW(
            [{"params": [p for p in params.values() if p.dim() >= 2], "weight_decay": o["weight_decay"]},
             {"params": [p for p in params.values() if p.dim() < 2], "weight_decay": 0.0}],
            lr=lr, betas=(o["beta1"], o["beta2"]), eps=o["eps"])
    else:
        optimizer = peer.KoalaV(params.values(), o["sigma"], o["q"], alpha_r=o["alpha_r"], lr=lr)
    out = {"loss": [], "loss_var": [], "grad_norm": [], "gradients": {}}
    for step in range(STEPS):
        part = ids[:, step * run.window : (step + 1) * run.window + 1]
        run.model.zero_grad()
        if kind == "koala-v":
            optimizer.predict()
        losses = run.losses(part[:, :-1], part[:, 1:])
        loss, loss_var = losses.mean(), losses.detach().square().mean()
        loss.backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in params.values()])
        out["loss"].append(loss.item())
        out["loss_var"].append(loss_var.item())
        out["grad_norm"].append(norm.item())
        if step in PROBED:
            out["gradients"][str(step)] = {
                n: [p.grad.norm().item(), p.grad.flatten()[probe[n]].item()] for n, p in params.items()}
        if kind == "koala-v":
            optimizer.update(loss.item(), loss_var.item())
        else:
            if kind == "sgd":
                torch.nn.utils.clip_grad_norm_(params.values(), o["clip"])
            optimizer.step()
    out["parameter_norms"] = {n: p.detach().norm().item() for n, p in params.items()}
    if kind == "koala-v":
        out["sigma"], out["r"] = optimizer.sigma, optimizer.r
    return out


def largest_entries(run, ids):
    """For each tensor the index of its largest gradient at the first step: what is probed."""
    losses = run.losses(ids[:, : run.window], ids[:, 1 : run.window + 1])
    losses.mean().backward()
    return {n: p.grad.abs().argmax().item() for n, p in named_parameters(run.model).items()}


def compact(value):
    """JSON with every number on as few characters as keep 12 digits."""
    if isinstance(value, dict):
        return {k: compact(v) for k, v in value.items()}
    if isinstance(value, list):
        return [compact(v) for v in value]
    return float(f"{value:.12g}") if isinstance(value, float) else value


def adaptive_softmax():
    """One forward and backward pass of PyTorch's AdaptiveLogSoftmaxWithLoss in float64."""
    torch.manual_seed(11)
    layer = torch.nn.AdaptiveLogSoftmaxWithLoss(16, 60, cutoffs=[10, 30], div_value=2.0, head_bias=True).double()
    hidden = torch.randn(24, 16, dtype=torch.float64, requires_grad=True)
    # Rows in the head and in both tails, and every cluster's first and last word.
    target = torch.tensor([0, 9, 10, 29, 30, 59] + [(i * 23) % 60 for i in range(18)])
    output, loss = layer(hidden, target)
    loss.backward()
    flat = lambda t: {"shape": list(t.shape), "values": t.detach().flatten().tolist()}  # noqa: E731
    return {
        "made_with": "torch " + torch.__version__.split("+")[0],
        "vocab": 60, "cutoffs": [10, 30], "div_value": 2.0,
        "hidden": flat(hidden), "target": target.tolist(),
        "weights": {n: flat(p) for n, p in layer.named_parameters()},
        "losses": (-output).tolist(), "loss": loss.item(),
        "gradients": {"hidden": flat(hidden.grad), **{n: flat(p.grad) for n, p in layer.named_parameters()}},
        "log_prob_row0": layer.log_prob(hidden)[0].tolist(),
    }


def write(path, record):
    path.write_text(json.dumps(compact(record), separators=(",", ":")) + "\n")


def main(folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for name, (runner, model) in small_models().items():
        rows = learnable_ids(STEPS * runner.window + 1)
        ids = torch.tensor(rows)
        weights = {n: p.detach().contiguous() for n, p in named_parameters(model).items()}
        save_file(weights, folder / f"{name}.safetensors")
        (folder / f"{name}.safetensors").chmod(0o644)
        record = {
            "made_with": "torch " + torch.__version__.split("+")[0],
            "vocab": VOCAB, "batch": BATCH, "window": runner.window, "steps": STEPS, "ids": rows,
            "probe": largest_entries(runner(copy.deepcopy(model).double()), ids),
            "runs": {},
        }
        for kind, settings in OPTIMIZERS.items():
            lr = settings["lr"][name]
            runs = {str(dtype)[6:]: train(runner(copy.deepcopy(model).to(dtype)), ids, kind, lr, record["probe"])
                    for dtype in (torch.float32, torch.float64)}
            record["runs"][kind] = {"settings": {**settings, "lr": lr}, **runs}
            for what in ("loss", "grad_norm"):
                apart = max(abs(a / b - 1) for a, b in zip(runs["float32"][what], runs["float64"][what]))
                ends = runs["float64"][what][0], runs["float64"][what][-1]
                print(f"{name} {kind}: {what} {ends[0]:.4f} to {ends[1]:.4f}, float32 off by {apart:.1e}")
        write(folder / f"{name}.json", record)
    write(folder / "adaptive_softmax.json", adaptive_softmax())


main(sys.argv[1])
