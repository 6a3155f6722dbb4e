"""KOALA-K as a prototype in PyTorch, with what its equations leave open as flags.

    PYTHONPATH=<what `make peers` installs> python3 study/koala_k.py --text shakespeare.txt lr=3 beta1=0.95

trains one model and prints one line of JSON: the settings that are not defaults, the
loss on valid at the end (and at half, of long runs), and the same with averaged weights.
Models: a GPT of 4 blocks x 128 with a context of 64 on a text's characters, 90 % of
them for training (--text), or the tied LSTM 2 x 200 on prepared words (--data DIR).
Arguments KEY=VALUE change DEFAULTS below. study/koala-k.md tells what came out.
"""

import json
import math
import pathlib
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "bench"))
from lstm_model import LSTM  # noqa: E402

DEFAULTS = {
    "kind": "koala-k",  # koala-k, koala-d, muon, adamw, sgd
    "lr": 1.0,
    "steps": 1000,
    "seed": 1,
    "schedule": "constant",  # constant, cosine: warm-up over 100 steps, then to a tenth (GPT) or to 0 (LSTM)
    "clip": 1.0,  # global norm of the gradients; 0: none
    "decay": 0.0,  # decoupled, matrices and embeddings alone
    # the filter
    "sigma": 1.0,
    "q": 1e-3,
    "q_power": 0.0,  # a prediction adds q min(|G|, 1)^q_power, |G| being the norm of the clipped gradients
    "alpha_r": 0.9,
    "target": 0.0,  # L*; nats
    "floor": "none",  # none, aitken: L* extrapolated from the training loss at t/4, t/2 and t
    "innovation": "signed",  # signed: L - L*; positive: max(L - L*, 0)
    "filter": "one",  # one: one S and sigma; s: S a tensor, sigma by the steepest; own: S and sigma a tensor
    "n2": "frobenius",  # direction: <G, D M>; gradient: <G, D G>; mean: <M, D M>; mixed: <G, D M> of matrices, <G, D G> of the rest; frobenius: the bound c sqrt(min(m, n)) |G| of matrices' <G, D G>
    # the prior
    "beta1": 0.9,
    "beta2": 0.99,
    "nesterov": True,
    "c": "rms",  # rms: 0.2 sqrt(max(m, n)); spectral: 0.2 sqrt(128) sqrt(m/n); fan: sqrt(128) 0.2 sqrt(max(1, m/n)); fixed: 0.2 sqrt(128)
    "c_factor": 1.0,
    "rest": 1.0,  # factor of D for tensors that are no matrices
    "embedding": "diagonal",  # diagonal, matrix, rows: each row of M divided by its norm
    "split": True,  # query, key and value (and gates) as matrices of their own
    "iterations": 5,
    "coefficients": "muon",  # muon, polar (Polar Express), cubic, svd
    "precision": "bfloat16",  # of the iterations
    "momentum": 0.9,  # sgd
    "layers": 4,  # of the GPT, with "embed" / 32 heads
    "embed": 128,
    "hidden": 200,  # of the LSTM
    "windows": 4,  # every fourth window of valid is evaluated; LSTM: a share of 80,000 tokens
}

POLAR = [  # Amsel et al. 2025, The Polar Express, Algorithm 1 (l = 1e-3)
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.875, -1.25, 0.375),
]


def orthogonal(x, o):
    """U V^T of each of a batch of matrices [k, m, n], as well as o's iterations give it."""
    if o["coefficients"] == "svd":
        u, _, vt = torch.linalg.svd(x, full_matrices=False)
        return u @ vt
    dtype = x.dtype
    if x.shape[1] > x.shape[2]:
        return orthogonal(x.mT, o).mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    if o["coefficients"] == "polar":
        x = x / 1.01
    x = x.to(getattr(torch, o["precision"]))
    for i in range(o["iterations"]):
        a, b, c = {"muon": (3.4445, -4.775, 2.0315), "cubic": (1.5, -0.5, 0.0), "polar": POLAR[min(i, 6)]}[o["coefficients"]]
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.to(dtype)


class Parts:
    """Parameters by role: matrices (split where rows hold several) by shape, and the rest."""

    def __init__(self, named, o):
        self.stacks, self.rest, self.rows = {}, [], []
        for name, p, role, split in named:
            if role == "matrix" or role == "embedding" and o["embedding"] == "matrix":
                k = split if o["split"] else 1
                for i in range(k):
                    m = p.shape[0] // k
                    self.stacks.setdefault((m, p.shape[1]), []).append((p, slice(i * m, (i + 1) * m)))
            elif role == "embedding" and o["embedding"] == "rows":
                self.rows.append(p)
            else:
                self.rest.append(p)


def scale(shape, o):
    m, n = shape
    base = 0.2 * math.sqrt(128)
    c = {"rms": 0.2 * math.sqrt(max(m, n)), "spectral": base * math.sqrt(m / n), "fan": base * math.sqrt(max(1, m / n)), "fixed": base}
    return c[o["c"]] * o["c_factor"]


class KoalaK:
    def __init__(self, named, o):
        self.o, self.parts, self.sigma, self.r, self.t = o, Parts(named, o), o["sigma"], None, 0
        self.m = {p: torch.zeros_like(p) for _, p, _, _ in named}
        self.v = {p: torch.zeros_like(p) for p in self.parts.rest}
        self.decayed = [p for _, p, role, _ in named if role != "vector"]
        self.params = [p for _, p, _, _ in named]
        self.own = {}
        self.log = []

    @torch.no_grad()
    def step(self, loss, square, factor, target):
        o, parts = self.o, self.parts
        b1, b2 = o["beta1"], o["beta2"]
        self.t += 1
        self.r = square if self.r is None else o["alpha_r"] * self.r + (1 - o["alpha_r"]) * square
        units = []  # [(tensors that move, their directions, n2)]
        for p, m in self.m.items():
            m.lerp_(p.grad, 1 - b1)
        for shape, stack in parts.stacks.items():
            g = torch.stack([p.grad[s] for p, s in stack])
            m = torch.stack([self.m[p][s] for p, s in stack])
            ahead = b1 * m + (1 - b1) * g if o["nesterov"] else m
            c = scale(shape, o)
            d = c * orthogonal(ahead, o)
            if o["n2"] == "frobenius":
                n2 = c * min(shape) ** 0.5 * g.norm(dim=(1, 2))
            elif o["n2"] == "gradient":
                n2 = (g * c * orthogonal(g, o)).sum((1, 2))
            else:
                n2 = ((ahead if o["n2"] == "mean" else g) * d).sum((1, 2))
            units += [(p[s], d[i], n2[i]) for i, (p, s) in enumerate(stack)]
        for p in parts.rest:
            v = self.v[p].mul_(b2).addcmul_(p.grad, p.grad, value=1 - b2)
            root = (v / (1 - b2**self.t)).sqrt_().add_(1e-8)
            mean = self.m[p] / (1 - b1**self.t)
            d = o["rest"] * mean / root
            n2 = {"direction": (p.grad * d), "mean": mean * d}.get(o["n2"])
            units.append((p, d, (o["rest"] * p.grad * p.grad / root if n2 is None else n2).sum()))
        for p in parts.rows:
            ahead = b1 * self.m[p] + (1 - b1) * p.grad if o["nesterov"] else self.m[p]
            d = o["rest"] * 0.2 * math.sqrt(p.shape[1]) * ahead / ahead.norm(dim=1, keepdim=True).clamp(min=1e-10)
            units.append((p, d, (p.grad * d).sum()))
        innovation = loss - target
        if o["innovation"] == "positive":
            innovation = max(innovation, 0.0)
        n2s = torch.stack([n for _, _, n in units]).clamp(min=0).tolist() if o["filter"] != "one" else None
        total = max(torch.stack([n for _, _, n in units]).sum().item(), 0.0)
        rates = []
        if o["filter"] == "one":
            norm = torch.stack([p.grad.norm() for p in self.params]).norm().item()
            self.sigma += o["q"] * min(norm, 1.0) ** o["q_power"]
            s = self.sigma * total + self.r
            rates = [self.sigma / s] * len(units)
            self.sigma *= self.r / s
        elif o["filter"] == "s":
            self.sigma += o["q"]
            rates = [self.sigma / (self.sigma * n + self.r) for n in n2s]
            self.sigma *= self.r / (self.sigma * max(n2s) + self.r)
        else:
            for i, n in enumerate(n2s):
                sigma = self.own.get(i, o["sigma"]) + o["q"]
                s = sigma * n + self.r
                rates.append(sigma / s)
                self.own[i] = sigma * self.r / s
        a = o["lr"] * factor * innovation
        if o["decay"]:
            for p in self.decayed:
                p.mul_(1 - a * rates[0] * o["decay"])
        for (p, d, _), rate in zip(units, rates):
            p.add_(d, alpha=-a * rate)
        self.log.append((a * rates[0], self.sigma, total, self.r))


class Torch:
    """A torch optimizer, or several, with one rate."""

    def __init__(self, named, o):
        matrices = [p for _, p, role, _ in named if role == "matrix"]
        vectors = [p for _, p, role, _ in named if role == "vector"]
        embeddings = [p for _, p, role, _ in named if role == "embedding"]
        adam = dict(lr=o["lr"], betas=(o["beta1"], o["beta2"]), foreach=True)
        groups = lambda decayed: [{"params": decayed, "weight_decay": o["decay"]}, {"params": vectors, "weight_decay": 0.0}]  # noqa: E731
        if o["kind"] == "adamw":
            self.all = [torch.optim.AdamW(groups(matrices + embeddings), **adam)]
        elif o["kind"] == "sgd":
            self.all = [torch.optim.SGD(matrices + embeddings + vectors, lr=o["lr"], momentum=o["momentum"])]
        else:
            self.all = [torch.optim.AdamW(groups(embeddings), **adam), Muon(named, o)]
        self.log = []

    def step(self, loss, square, factor, target):
        for optimizer in self.all:
            for group in optimizer.param_groups:
                group["lr"] = self.all_lr * factor
            optimizer.step()


class Muon(torch.optim.Optimizer):
    """torch.optim.Muon (match_rms_adamw, momentum 0.95, Nesterov) on split matrices, batched."""

    def __init__(self, named, o):
        self.o, self.parts = o, Parts(named, o)
        super().__init__([p for _, p, role, _ in named if role == "matrix"], {"lr": o["lr"]})
        self.m = {p: torch.zeros_like(p) for p in self.param_groups[0]["params"]}

    @torch.no_grad()
    def step(self):
        lr = self.param_groups[0]["lr"]
        for p, m in self.m.items():
            m.lerp_(p.grad, 0.05)
        for shape, stack in self.parts.stacks.items():
            ahead = torch.stack([torch.lerp(p.grad[s], self.m[p][s], 0.95) for p, s in stack])
            d = orthogonal(ahead, self.o)
            for i, (p, s) in enumerate(stack):
                p[s].mul_(1 - lr * self.o["decay"]).add_(d[i], alpha=-lr * 0.2 * math.sqrt(max(shape)))


class Block(nn.Module):
    def __init__(self, embed, heads):
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(embed, bias=False), nn.LayerNorm(embed, bias=False)
        self.qkv = nn.Linear(embed, 3 * embed, bias=False)
        self.out = nn.Linear(embed, embed, bias=False)
        self.up = nn.Linear(embed, 4 * embed, bias=False)
        self.down = nn.Linear(4 * embed, embed, bias=False)

    def forward(self, x):
        b, t, e = x.shape
        q, k, v = self.qkv(self.ln_1(x)).view(b, t, 3, self.heads, e // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, e))
        return x + self.down(F.gelu(self.up(self.ln_2(x))))


class GPT(nn.Module):
    """nanoGPT's model: learned positions, tied output layer, no biases."""

    def __init__(self, vocab, context=64, layers=4, heads=4, embed=128):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocab, embed), nn.Embedding(context, embed)
        self.blocks = nn.ModuleList(Block(embed, heads) for _ in range(layers))
        self.ln_f = nn.LayerNorm(embed, bias=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.02 / (2 * layers) ** 0.5 if name.endswith(("out.weight", "down.weight")) else 0.02)

    def forward(self, ids):
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        return F.linear(self.ln_f(x), self.wte.weight).flatten(0, 1)


class GPTTask:
    last = 0.1  # the cosine's end

    def __init__(self, path, o):
        self.every, seed = o["windows"], o["seed"]
        text = pathlib.Path(path).read_text()
        number = {c: i for i, c in enumerate(sorted(set(text)))}
        ids = np.array([number[c] for c in text])
        cut = int(0.9 * len(ids))
        self.train, self.valid = ids[:cut], ids[cut:]
        torch.manual_seed(seed)
        self.model = GPT(len(number), layers=o["layers"], heads=o["embed"] // 32, embed=o["embed"])
        self.named = []
        for name, p in self.model.named_parameters():
            role = "vector" if p.dim() < 2 else "embedding" if name.startswith(("wte", "wpe")) else "matrix"
            self.named.append((name, p, role, 3 if "qkv" in name else 1))
        self.rng = np.random.default_rng(seed)

    def losses(self):
        starts = self.rng.integers(0, len(self.train) - 65, size=12)
        rows = torch.from_numpy(np.stack([self.train[s : s + 65] for s in starts]))
        return F.cross_entropy(self.model(rows[:, :-1].contiguous()), rows[:, 1:].flatten(), reduction="none")

    @torch.no_grad()
    def evaluate(self):
        n = (len(self.valid) - 1) // 64
        x = torch.from_numpy(self.valid[: n * 64].reshape(n, 64))[:: self.every]
        y = torch.from_numpy(self.valid[1 : n * 64 + 1].reshape(n, 64))[:: self.every]
        sums = [F.cross_entropy(self.model(a), b.flatten(), reduction="sum").item() for a, b in zip(x.split(16), y.split(16))]
        return sum(sums) / y.numel()


class LSTMTask:
    last = 0.0

    def __init__(self, folder, o):
        seed = o["seed"]
        folder = pathlib.Path(folder)
        read = lambda split: np.fromfile(folder / f"{split}.bin", np.uint16).astype(np.int64)  # noqa: E731
        self.train, self.valid = read("train"), read("valid")[: 80_000 // o["windows"]]
        vocab = int(max(self.train.max(), self.valid.max())) + 1
        torch.manual_seed(seed)
        self.model = LSTM(vocab, o["hidden"], o["hidden"])
        self.named = []
        for name, p in self.model.named_parameters():
            role = "vector" if p.dim() < 2 else "embedding" if name.startswith(("encoder", "decoder")) else "matrix"
            self.named.append((name, p, role, 4 if role == "matrix" else 1))
        self.rng = np.random.default_rng(seed)

    def losses(self):
        starts = self.rng.integers(0, len(self.train) - 36, size=20)
        rows = torch.from_numpy(np.stack([self.train[s : s + 36] for s in starts], 1))
        logits, _ = self.model(rows[:-1], self.model.zero_state(20))
        return F.cross_entropy(logits, rows[1:].flatten(), reduction="none")

    @torch.no_grad()
    def evaluate(self):
        self.model.eval()
        n = len(self.valid) // 20
        data = torch.from_numpy(self.valid[: n * 20].reshape(20, n).T.copy())
        state, total = self.model.zero_state(20), 0.0
        for i in range(0, n - 1, 35):
            k = min(35, n - 1 - i)
            logits, state = self.model(data[i : i + k], state)
            total += F.cross_entropy(logits, data[i + 1 : i + 1 + k].flatten(), reduction="sum").item()
        self.model.train()
        return total / (20 * (n - 1))


AVERAGES = (0.98, 0.99, 0.995)


class Averages:
    """Exponential averages of the weights, from the first step on, without its bias."""

    def __init__(self, params):
        self.params, self.t = params, 0
        self.sums = {a: [torch.zeros_like(p) for p in params] for a in AVERAGES}

    @torch.no_grad()
    def update(self):
        self.t += 1
        for a, sums in self.sums.items():
            torch._foreach_lerp_(sums, self.params, 1 - a)

    @torch.no_grad()
    def evaluate(self, task):
        out, raw = {}, [p.clone() for p in self.params]
        for a, sums in self.sums.items():
            for p, s in zip(self.params, sums):
                p.copy_(s / (1 - a**self.t))
            out[str(a)] = round(task.evaluate(), 4)
        for p, r in zip(self.params, raw):
            p.copy_(r)
        return out


def aitken(history, t):
    """The limit of the training loss, from its means over the last 30 % at t/4, t/2 and t."""
    a, b, c = (float(np.mean(history[int(0.7 * k) : k])) for k in (t // 4, t // 2, t))
    d1, d2 = b - a, c - b
    if d1 >= 0 or d2 >= 0 or d2 <= d1:
        return None
    r = d2 / d1
    return min(max(c + d2 * r / (1 - r), 0.0), 0.97 * c)


def parse(args):
    """KEY=VALUE arguments as a dict, each value of its default's type."""
    changed = {}
    for arg in args:
        key, value = arg.split("=")
        kind = type(DEFAULTS[key])
        changed[key] = value == "True" if kind is bool else int(float(value)) if kind is int else kind(value)
    return changed


def train(kind, path, changed):
    """Trains a model and returns what main prints. kind: text or data."""
    o = DEFAULTS | changed
    if o["kind"] == "koala-d":
        o["embedding"] = "diagonal"
    task = (GPTTask if kind == "text" else LSTMTask)(path, o)
    if o["kind"] == "koala-d":
        task.named = [(n, p, "embedding" if p.dim() == 2 else "vector", 1) for n, p, _, _ in task.named]
    params = [p for _, p, _, _ in task.named]
    if o["kind"].startswith("koala"):
        optimizer = KoalaK(task.named, o)
    else:
        optimizer = Torch(task.named, o)
        optimizer.all_lr = o["lr"]
    averages, history, target = Averages(params), [], o["target"]
    result = {"task": "gpt" if kind == "text" else "lstm", "set": dict(changed)}
    began, cpu = time.time(), time.process_time()
    for step in range(1, o["steps"] + 1):
        losses = task.losses()
        loss = losses.mean()
        loss.backward()
        if o["clip"]:
            torch.nn.utils.clip_grad_norm_(params, o["clip"])
        value = loss.item()
        history.append(value)
        if not math.isfinite(value):
            break
        if o["floor"] == "aitken" and step >= 100 and step % 10 == 0:
            limit = aitken(history, step)
            if limit is not None:
                target += 0.1 * (limit - target)
        factor = 1.0
        if o["schedule"] == "cosine":
            warm = min(100, o["steps"] // 10)
            share = (step - warm) / (o["steps"] - warm)
            factor = step / warm if step < warm else task.last + (1 - task.last) * 0.5 * (1 + math.cos(math.pi * share))
        optimizer.step(value, losses.detach().square().mean().item(), factor, target)
        for p in params:
            p.grad = None
        averages.update()
        if step == o["steps"] or o["steps"] > 900 and step == o["steps"] // 2:
            result["half" if step < o["steps"] else "end"] = {"raw": round(task.evaluate(), 4)} | averages.evaluate(task)
    result["train"] = round(float(np.mean(history[-100:])), 4)
    if target:
        result["target"] = round(target, 3)
    if optimizer.log:
        result["rate_sigma_n2_r"] = [float(f"{x:.3g}") for x in np.mean(optimizer.log[-100:], axis=0)]
    result["seconds"], result["cpu"] = round(time.time() - began), round(time.process_time() - cpu)
    return result


def main():
    torch.set_num_threads(1)
    print(json.dumps(train(sys.argv[1].removeprefix("--"), sys.argv[2], parse(sys.argv[3:]))))


if __name__ == "__main__":
    main()
