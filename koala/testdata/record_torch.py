"""Records trajectories of PyTorch's own optimizers: python3 record_torch.py > torch.json, with torch 2.11.0.

They take the gradients of oracle/inputs.json as given, in float32 and float64.
"""

import json
import pathlib

import torch

torch.set_num_threads(1)
inputs = json.loads((pathlib.Path(__file__).parent / "oracle" / "inputs.json").read_text())

CASES = [
    ("sgd", torch.optim.SGD, {"lr": 0.1}),
    ("sgd", torch.optim.SGD, {"lr": 0.1, "weight_decay": 0.01}),
    ("sgd", torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    ("sgd", torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    ("sgd", torch.optim.SGD, {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.01, "nesterov": True}),
    ("adam", torch.optim.Adam, {"lr": 0.01}),
    ("adam", torch.optim.Adam, {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    ("adamw", torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1}),
    ("asgd", torch.optim.ASGD, {"lr": 0.1, "lambd": 0.0, "t0": 0, "weight_decay": 1.2e-6}),
    ("asgd", torch.optim.ASGD, {"lr": 0.1, "lambd": 1e-2, "alpha": 0.75, "t0": 4, "weight_decay": 0.01}),
]


def record(kind, make, settings, dtype, inputs_name):
    params = [torch.tensor(v, dtype=dtype).reshape(s) for v, s in zip(inputs["init"], inputs["shapes"])]
    optimizer = make(params, **settings)
    steps = []
    for step in inputs["sets"][inputs_name]:
        for p, g in zip(params, step["grads"]):
            p.grad = None if g is None else torch.tensor(g, dtype=dtype).reshape(p.shape)
        optimizer.step()
        entry = {"params": [p.flatten().tolist() for p in params]}
        if kind == "asgd":
            entry["avg"] = [optimizer.state[p]["ax"].flatten().tolist() for p in params]
        steps.append(entry)
    return {"variant": kind, "dtype": str(dtype).removeprefix("torch."), "inputs": inputs_name, "hyper": settings, "steps": steps}


print(json.dumps({"torch": torch.__version__, "cases": [
    record(*case, dtype, name) for case in CASES for dtype in (torch.float32, torch.float64) for name in "AB"]}))
