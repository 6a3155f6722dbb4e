"""What the peers share: token data, batches, the allocator, KOALA-V, measurements."""

import ctypes
import json
import os
import pathlib
import statistics
import sys
import time

import numpy as np


def tune_allocator():
    """Keep freed memory in the heap, and ask for large pages, as koala-lm does. Call before torch is imported."""
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if "glibc.malloc.hugetlb=" not in tunables:  # glibc reads it when a program starts
        os.environ["GLIBC_TUNABLES"] = f"{tunables}:glibc.malloc.hugetlb=1".lstrip(":")
        os.execv(sys.executable, [sys.executable, *sys.argv])
    libc = ctypes.CDLL("libc.so.6")
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # M_... in malloc.h
    libc.mallopt(mmap_threshold, 1 << 30)
    libc.mallopt(trim_threshold, 1 << 30)
    libc.mallopt(top_pad, 64 << 20)


def peak_rss_bytes():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no VmHWM")


def load_tokens(folder, split="train"):
    """The ids of a folder that `koala-lm prepare` made, and the vocabulary's size."""
    info = dataset_info(folder)
    dtype = {"uint16": "<u2", "uint32": "<u4"}[info["token_type"]]
    ids = np.fromfile(pathlib.Path(folder) / info["splits"][split]["file"], dtype=dtype)
    return ids.astype(np.int64), info["tokenizer"]["vocab"]


def has_split(folder, split):
    return split in dataset_info(folder)["splits"]


def dataset_info(folder):
    return json.loads((pathlib.Path(folder) / "dataset.json").read_text())


def zipf_tokens(count, vocab, seed=1):
    """Ids whose frequencies fall as 1/rank, as those of words do."""
    rng = np.random.default_rng(seed)
    weights = 1.0 / np.arange(1, vocab + 1)
    return rng.choice(vocab, size=count, p=weights / weights.sum()).astype(np.int64)


def contiguous(ids, batch):
    """[time, batch]: as many equally long texts side by side, the rest dropped."""
    length = len(ids) // batch
    return np.ascontiguousarray(ids[: length * batch].reshape(batch, length).T)


class Stopwatch:
    """Milliseconds of each step, those of the warm-up left out."""

    def __init__(self, warmup):
        self.warmup, self.ms = warmup, []

    def __enter__(self):
        self.start = time.perf_counter()

    def __exit__(self, *_):
        self.ms.append((time.perf_counter() - self.start) * 1e3)

    def report(self, tokens_per_step, **settings):
        """One line of JSON on standard output."""
        import torch

        ms = self.ms[self.warmup :]
        median = statistics.median(ms)
        print(json.dumps({
            "peer": "pytorch " + torch.__version__,
            **settings,
            "threads": torch.get_num_threads(),
            "steps": len(ms),
            "ms_per_step": round(median, 3),
            "ms_min": round(min(ms), 3),
            "tokens_per_second": round(tokens_per_step / median * 1e3, 1),
            "peak_rss_bytes": peak_rss_bytes(),
        }), flush=True)


class KoalaV:
    """KOALA-V (Davtyan et al., AAAI 2022) from its formulas, sigma and R as Python floats.

    The covariance update is the stable form sigma R / (sigma max n^2 + R).
    """

    def __init__(self, params, sigma=0.1, q=1.0, r=None, alpha_r=0.9, weight_decay=0.0, lr=1.0):
        self.params = list(params)
        self.sigma, self.q, self.lr, self.weight_decay = sigma, q, lr, weight_decay
        self.fixed_r, self.alpha_r, self.r = r is not None, alpha_r, 1.0 if r is None else r

    def predict(self):
        self.sigma += self.q

    def update(self, loss, loss_var):
        """Step along the gradients; loss is mean l, loss_var mean l^2."""
        import torch

        if not self.fixed_r:
            self.r = self.alpha_r * self.r + (1 - self.alpha_r) * loss_var
        largest = 0.0
        with torch.no_grad():
            for p in self.params:
                if p.grad is None or p.grad.norm().item() < 1e-9:
                    continue
                decayed = p.grad + self.weight_decay * p if self.weight_decay else p.grad
                n2 = decayed.norm().item() ** 2
                target = loss + 0.5 * self.weight_decay * p.norm().item() ** 2
                s = self.sigma * n2 + self.r
                p.add_(p.grad, alpha=-self.lr * target * self.sigma / s)
                largest = max(largest, n2)
        self.sigma = self.sigma * self.r / (self.sigma * largest + self.r)
