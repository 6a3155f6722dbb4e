"""Records ten steps of the published algorithm on the published ResNet-18, in reference.json.

    git clone https://github.com/Araachie/koala KOALA        # commit f864580
    python3 -m pip install torch==2.11.0 torchvision==0.26.0 numpy==2.4.6
    PYTHONPATH=KOALA python3 make_reference.py

The network is models.py's resnet18_cifar, the optimizers are koala.py's VanillaKOALA and
MomentumKOALA and torch.optim's SGD and Adam, with train.py's settings, and a step is
training_funcs.train's. Weights, images and labels come from a hash that cifar_test.go
computes too. Images are 8 x 8, so that a step takes little time.
"""

import json
import math
import pathlib

import numpy as np
import torch
from koala import MomentumKOALA, VanillaKOALA
from models import models

BATCH, SIDE, CLASSES = 16, 8, 10
STEPS = {torch.float64: 10, torch.float32: 3}  # in float32 rounding grows tenfold a step and more
FACTORS = [1.0] * 6 + [0.2] * 4  # of the learning rate: one fall of the schedule


def uniform(stream, count):
    """Numbers in [-0.5, 0.5) that depend on their stream and place alone."""
    mask = np.uint64(0xFFFFFFFF)
    x = (np.arange(count, dtype=np.uint64) * np.uint64(2654435761) + np.uint64(97531 * stream + 1)) & mask
    for shift, factor in ((16, 2246822519), (13, 3266489917)):
        x ^= x >> np.uint64(shift)
        x = (x * np.uint64(factor)) & mask
    x ^= x >> np.uint64(16)
    return x.astype(np.float64) / 2**32 - 0.5


def fill(model):
    for i, (name, p) in enumerate(model.named_parameters()):
        u = uniform(i, p.numel())
        if p.dim() == 4:
            u *= math.sqrt(24 / (p.shape[0] * p.shape[2] * p.shape[3]))
        elif p.dim() == 2:
            u *= 2 / math.sqrt(p.shape[1])
        else:
            u = (1 if name.endswith(".weight") else 0) + 0.2 * u
        p.data = torch.tensor(u.reshape(p.shape), dtype=p.dtype)


def batch(k, dtype):
    x = (4 * uniform(1000 + k, BATCH * 3 * SIDE * SIDE)).astype(np.float32)
    y = np.floor((uniform(2000 + k, BATCH) + 0.5) * CLASSES).astype(np.int64)
    return torch.tensor(x, dtype=dtype).reshape(BATCH, 3, SIDE, SIDE), torch.tensor(y)


def optimizers(params):
    return {
        "koala-v": (lambda: VanillaKOALA(params, weight_decay=5e-4, sigma=0.1, r=None), 1.0),
        "koala-m": (lambda: MomentumKOALA(params, weight_decay=5e-4, sw=0.1, sv=0.1, a=0.9, r=None), 1.0),
        "sgd": (lambda: torch.optim.SGD(params, weight_decay=5e-4, lr=0.01, momentum=0.9), 0.01),
        "adam": (lambda: torch.optim.Adam(params, weight_decay=5e-4, lr=1e-3), 1e-3),
    }


def record(kind, dtype):
    torch.set_default_dtype(dtype)
    model = models["resnet18_cifar"](num_classes=CLASSES)
    fill(model)
    make, lr = optimizers(list(model.parameters()))[kind]
    optimizer = make()
    criterion = torch.nn.CrossEntropyLoss(reduction="none")
    is_koala = kind.startswith("koala")
    case = {"kind": kind, "dtype": str(dtype).removeprefix("torch."), "loss": [], "mean_square": []}
    model.train()
    for k in range(STEPS[dtype]):
        x, y = batch(k, dtype)
        if is_koala:
            optimizer.predict()
        loss = criterion(model(x), y)
        mean, square = loss.mean(), torch.mean(torch.pow(loss, 2))
        for group in optimizer.param_groups:
            group["lr"] = lr * FACTORS[k]
        optimizer.zero_grad()
        mean.backward()
        if is_koala:
            optimizer.update(mean, square)
        else:
            optimizer.step()
        case["loss"].append(mean.item())
        case["mean_square"].append(square.item())
    model.eval()
    with torch.no_grad():
        x, y = batch(0, dtype)
        case["evaluated"] = criterion(model(x), y).mean().item()
    case["params"] = {n: [p.norm().item(), p.flatten()[0].item()] for n, p in model.named_parameters()}
    case["buffers"] = [b.norm().item() for n, b in model.named_buffers() if "running" in n]
    return case


def main():
    torch.set_num_threads(1)
    cases = [record(kind, dtype) for kind in optimizers([]) for dtype in (torch.float64, torch.float32)]
    head = {"versions": {"torch": torch.__version__.split("+")[0]}, "factors": FACTORS, "batch": BATCH, "side": SIDE, "classes": CLASSES}
    lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases)
    text = json.dumps(head, separators=(",", ":"))[:-1] + ',"cases":[\n' + lines + "\n]}\n"
    (pathlib.Path(__file__).parent / "reference.json").write_text(text)
    print(f"{len(text):,} bytes")


if __name__ == "__main__":
    main()
