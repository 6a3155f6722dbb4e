"""Times optimizer steps side by side, ours (koala's Go benchmarks) and PyTorch's, and prints a Markdown table.

    go test -c -o bin/koala.test ./koala
    python3 optimizers_peer.py ../bin/koala.test

Ours are all kinds that the Go benchmarks list. The published KOALA is transcribed from its formulas, one operator after
another as its authors have it. The set "matrices" has those of a GPT of 4 x 128, on which PyTorch's Muon runs too, in
bfloat16 as it does everywhere. Each cell is the fastest step of all rounds, in milliseconds; ours and theirs take turns,
so that both see the same machine.
"""

import argparse
import re
import subprocess
import time

import torch

flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
flags.add_argument("ours", help="the compiled test binary of package koala")
flags.add_argument("--sets", default="lstm-tied,lstm-untied,gpt,matrices")
flags.add_argument("--kinds", default=".*", help="which of ours, a regular expression")
flags.add_argument("--threads", default="1,2")
flags.add_argument("--decay", default="0,0.0005", help="weight decays")
flags.add_argument("--steps", type=int, default=20, help="a round")
flags.add_argument("--rounds", type=int, default=3)
args = flags.parse_args()


def lstm(tied, vocab=33278, width=200):
    shapes = [(vocab, width)] + 2 * [(4 * width, width), (4 * width, width), (4 * width,), (4 * width,)]
    return shapes + ([] if tied else [(vocab, width)]) + [(vocab,)]


def gpt(layers=12, width=384, vocab=20000, context=256):
    block = [(width,), (3 * width, width), (width, width), (width,), (4 * width, width), (width, 4 * width)]
    return [(vocab, width), (context, width)] + layers * block + [(width,)]


def matrices(layers=4, width=128):
    return layers * (4 * [(width, width)] + [(4 * width, width), (width, 4 * width)])


SETS = {"lstm-tied": lstm(True), "lstm-untied": lstm(False), "gpt": gpt(), "matrices": matrices()}


class KoalaV:
    def __init__(self, params, lr=1e-6, wd=0.0, sigma=0.1, q=1.0):
        self.params, self.lr, self.wd, self.q = params, lr, wd, q
        self.sigma, self.r = torch.tensor(sigma), torch.tensor(1.0)

    @torch.no_grad()
    def step(self, loss=5.0, loss_var=30.0):
        self.sigma = self.sigma + self.q
        self.r = 0.9 * self.r + 0.1 * loss_var
        worst = []
        for p in self.params:
            if p.grad is None or p.grad.norm() < 1e-9:
                continue
            h, seen = p.grad, loss
            if self.wd:
                h, seen = p.grad + self.wd * p, loss + self.wd / 2 * p.norm() ** 2
            square = h.norm() ** 2
            s = self.sigma * square + self.r
            p.sub_(self.lr * seen * self.sigma / s * p.grad)
            worst.append(square / s)
        self.sigma = self.sigma - self.sigma**2 * torch.stack(worst).max()


class KoalaM:
    def __init__(self, params, lr=1e-6, wd=0.0, sw=0.1, sv=0.1, a=0.9, qw=0.01, qv=0.01):
        self.params, self.lr, self.wd, self.a, self.qw, self.qv = params, lr, wd, a, qw, qv
        self.P, self.F = torch.diag(torch.tensor([sw, sv])), torch.tensor([[1.0, 1.0], [0.0, a]])
        self.r = torch.tensor(1.0)
        self.v, self.m = [torch.zeros_like(p) for p in params], [torch.zeros_like(p) for p in params]
        self.count = sum(p.numel() for p in params)

    @torch.no_grad()
    def step(self, loss=5.0, loss_var=30.0):
        away = sum((m - p).norm() ** 2 for m, p in zip(self.m, self.params)).sqrt() / self.count
        self.qw = 0.9 * self.qw + 0.1 * away
        for p, v in zip(self.params, self.v):
            p.add_(v)
            v.mul_(self.a)
        self.P = self.F @ self.P @ self.F.T + torch.diag(torch.tensor([self.qw, self.qv]))
        self.r = 0.9 * self.r + 0.1 * loss_var
        worst = []
        for p, v, m in zip(self.params, self.v, self.m):
            if p.grad is None or p.grad.norm() < 1e-9:
                continue
            h, seen = p.grad, loss
            if self.wd:
                h, seen = p.grad + self.wd * p, loss + self.wd / 2 * p.norm() ** 2
            square = h.norm() ** 2
            s = square * self.P[0, 0] + self.r
            p.sub_(self.P[0, 0] * self.lr * seen / s * h)
            v.sub_(self.P[1, 0] * self.lr * seen / s * h)
            m.mul_(0.9).add_(0.1 * p)
            worst.append(square / s)
        self.P = self.P - torch.stack(worst).max() * torch.outer(self.P[:, 0], self.P[0])


class KoalaPP:
    def __init__(self, params, lr=1e-6, wd=0.0, sigma=0.1, q=0.1):
        self.params, self.lr, self.wd, self.sigma, self.q = params, lr, wd, sigma, q
        self.r, self.state = torch.tensor(1.0), {}

    @torch.no_grad()
    def step(self, loss=5.0, loss_var=30.0):
        self.r = 0.9 * self.r + 0.1 * loss_var
        for i, p in enumerate(self.params):
            if p.grad is None or p.grad.norm() < 1e-9:
                continue
            h, seen = p.grad.clone(), loss
            if self.wd:
                h, seen = p.grad + self.wd * p, loss + self.wd / 2 * p.norm() ** 2
            if i not in self.state:
                v = self.sigma * h
                self.state[i] = v, h, (v * h).sum() + self.q * h.norm() ** 2 + self.r
            v, h0, s0 = self.state[i]
            x, y, hv, hh0 = h0.norm() ** 2, (h0 * v).sum(), (h * v).sum(), (h * h0).sum()
            lam = (hv + self.q * hh0) / s0
            w = hv / x - hh0 * y / x**2
            v = (hh0 / x - lam) * v + self.q * (h - lam * h0) + w * h0
            s = (v * h).sum() + self.q * h.norm() ** 2 + self.r
            p.sub_(self.lr * seen / s * (v + self.q * h))
            self.state[i] = v, h, s


def torch_optimizers(shapes, wd):
    sgd, adam = torch.optim.SGD, torch.optim.Adam
    optimizers = {
        "SGD-momentum, foreach": lambda p: sgd(p, lr=1e-6, momentum=0.9, weight_decay=wd, foreach=True),
        "SGD-momentum, fused": lambda p: sgd(p, lr=1e-6, momentum=0.9, weight_decay=wd, fused=True),
        "Adam, foreach": lambda p: adam(p, lr=1e-6, weight_decay=wd, foreach=True),
        "Adam, fused": lambda p: adam(p, lr=1e-6, weight_decay=wd, fused=True),
        "KOALA-V as published": lambda p: KoalaV(p, wd=wd),
        "KOALA-M as published": lambda p: KoalaM(p, wd=wd),
        "KOALA++ as published": lambda p: KoalaPP(p, wd=wd),
    }
    if shapes == SETS["matrices"]:
        optimizers["Muon"] = lambda p: torch.optim.Muon(p, lr=1e-6, weight_decay=wd)
    return optimizers


def run_ours(name, threads, wd):
    """By kind the milliseconds of the fastest step, and the bytes an element that it touches, 0 if not counted."""
    pattern = f"^BenchmarkStep$/^{name}$/^threads={threads}$/^wd={wd:g}$/^({args.kinds})$"
    out = subprocess.run([args.ours, "-test.run=^$", f"-test.bench={pattern}", f"-test.benchtime={args.steps}x"],
                         capture_output=True, text=True, check=True).stdout
    found = {}
    for line in out.splitlines():
        if m := re.match(r"BenchmarkStep/.*wd=[^/]*/(\S+?)(?:-\d+)?\s", line):
            value = lambda unit: float((re.search(rf"([\d.]+) {unit}", line) or [0, 0])[1])
            found[m[1]] = value("ms-best"), value("B/element")
    return found


def bandwidth(threads):
    """Bytes a second, read and written, of the better of a copy and an addition."""
    out = subprocess.run([args.ours, "-test.run=^$", f"-test.bench=^BenchmarkBandwidth$/^threads={threads}$", f"-test.benchtime={args.steps}x"],
                         capture_output=True, text=True, check=True).stdout
    return max(float(m) for m in re.findall(r"([\d.]+) GB/s-best", out)) * 1e9


def run_theirs(shapes, wd, best):
    for name, make in torch_optimizers(shapes, wd).items():
        params = [torch.randn(s).mul_(0.1).requires_grad_() for s in shapes]
        for p in params:
            p.grad = torch.randn_like(p) * 1e-3
        step = make(params).step
        for i in range(args.steps + 3):
            start = time.perf_counter()
            step()
            ms = (time.perf_counter() - start) * 1e3
            if i >= 3:
                best[name] = min(best.get(name, ms), ms)


def compare(name, threads, wd):
    shapes, best, touched, memory = SETS[name], {}, {}, 0.0
    torch.set_num_threads(threads)
    for _ in range(args.rounds):
        memory = max(memory, bandwidth(threads))
        for kind, (ms, size) in run_ours(name, threads, wd).items():
            kind = "ours: " + kind
            best[kind], touched[kind] = min(best.get(kind, ms), ms), size
        run_theirs(shapes, wd, best)
    count = sum(torch.Size(s).numel() for s in shapes)
    base = "Muon" if "Muon" in best else "SGD-momentum, foreach"
    print(f"\n{name}, {count / 1e6:.1f} M parameters, {threads} thread{'s' * (threads > 1)}, weight decay {wd:g}; "
          f"memory gives {memory / 1e9:.1f} GB/s\n")
    print(f"| step | ms | / {base} | GB/s | of the memory's |\n| --- | ---: | ---: | ---: | ---: |")
    for kind, ms in best.items():
        rate = " | "
        if touched.get(kind):
            per_second = touched[kind] * count / ms * 1e3
            rate = f"{per_second / 1e9:.1f} | {100 * per_second / memory:.0f}%"
        print(f"| {kind} | {ms:.2f} | {ms / best[base]:.2f} | {rate} |", flush=True)


print(f"PyTorch {torch.__version__}; the fastest of {args.rounds} rounds of {args.steps} steps")
for set_name in args.sets.split(","):
    for n in args.threads.split(","):
        for decay in args.decay.split(","):
            compare(set_name, int(n), float(decay))
