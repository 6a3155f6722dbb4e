"""Records reference trajectories of the optimizers, one file a kind, beside this script.

    python3 -m pip install --target DIR -r requirements.txt
    PYTHONPATH=DIR python3 make_references.py [KIND ...]

Lion comes from lion-pytorch, Schedule-Free AdamW from schedulefree, SOAP from
pytorch-optimizer, Muon, RMSprop, Adagrad, NAdam and Adafactor from torch.optim.
KOALA-K has no public implementation: koala_k.py, in numpy, computes it from its
definition. README.md describes the format.
"""

import importlib.metadata
import json
import pathlib
import sys
from contextlib import contextmanager

import numpy as np
import torch

import koala_k

HERE = pathlib.Path(__file__).parent
STEPS = 25
SNAPSHOTS = {torch.float64: [1, 2, 12, 25], torch.float32: [1, 25]}  # parameters are recorded after these steps

# name, role, shape, matrices that its rows hold (0: it is none)
TENSORS = [
    ("tall", "matrix", [4, 3], 1),
    ("wide", "matrix", [3, 4], 1),
    ("square", "matrix", [3, 3], 1),
    ("bias", "vector", [4], 0),
    ("embedding", "embedding", [6, 2], 0),
    ("gates", "matrix", [6, 2], 3),
]
MATRICES = [i for i, (_, role, _, _) in enumerate(TENSORS) if role == "matrix"]
TWO_DIMENSIONAL = [i for i, (_, _, shape, _) in enumerate(TENSORS) if len(shape) == 2]
ALL = list(range(len(TENSORS)))

# The second half of nanoGPT's cosine, say: any factors of the rate that change.
FACTORS = [1, 1, 0.9, 0.8, 0.7, 0.5, 0.5, 1.5, 1, 1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1, 0.1, 0.1, 0.1, 0.1]


def make_inputs():
    """Tensors, gradients and losses, in multiples of 1/512: their decimals are exact in float32 and float64."""
    rng = np.random.default_rng(20261126)
    rounded = lambda x: np.round(np.asarray(x) * 512) / 512  # noqa: E731
    shapes = [t[2] for t in TENSORS]
    init = [rounded(rng.normal(size=s)) for s in shapes]
    drift = [rng.normal(size=s) for s in shapes]  # what the gradients have in common
    sets = {}
    for name in "AB":
        steps, past = [], []
        for k in range(STEPS):
            size = np.exp(rng.normal(0, 0.5)) * 0.5
            grads = [rounded(size * (0.6 * d + rng.normal(size=d.shape))) for d in drift]
            embedding = grads[4]
            for row in range(6):  # tokens that the batch lacks; the last is in none
                if row == 5 or (row + k) % 3 == 0:
                    embedding[row] = 0
            if name == "B":
                if k in (2, 3):
                    grads[3][:] = 0
                if k == 9:
                    grads[0][:] = 0
                if k == 15:  # against what came before: g . D m is negative
                    grads = [rounded(-2 * sum(g[i] for g in past[-5:]) / 5) for i in ALL]
                past.append([g.copy() for g in grads])
                if k in (5, 14):
                    grads[3] = None
                if k == 8:
                    grads[2] = None
                    past[-1][2][:] = 0
            else:
                past.append(grads)
            loss = rounded(1.2 + 2 * np.exp(-k / 8) + rng.normal(0, 0.05))
            square = rounded(loss**2 * (1.3 + rng.normal(0, 0.05)))
            steps.append({"loss": exact(loss), "mean_square": exact(square), "grads": [None if g is None else flat(g) for g in grads]})
        sets[name] = steps
    return {
        "tensors": [{"name": n, "role": r, "shape": s, "matrices": m} for n, r, s, m in TENSORS],
        "init": [flat(p) for p in init],
        "sets": sets,
    }


def exact(x):
    """A float32's shortest decimal; 15 digits of a float64."""
    return float(str(x)) if isinstance(x, np.float32) else float(f"{x:.15g}")


def flat(a):
    a = a.detach().numpy() if isinstance(a, torch.Tensor) else a
    return [exact(x) for x in np.ascontiguousarray(a).reshape(-1)]


def parameters(inputs, dtype):
    """The inputs' tensors at their first values."""
    return [torch.tensor(np.reshape(v, t["shape"]), dtype=dtype) for v, t in zip(inputs["init"], inputs["tensors"])]


def gradient(g, like):
    return None if g is None else torch.tensor(np.reshape(g, like.shape), dtype=like.dtype)


def record(inputs, make, hyper, dtype, name, on=ALL, factors=None, averaged=False, note=None):
    """One case: the optimizers that make(params) returns, over a set of gradients."""
    torch.set_default_dtype(dtype)  # NAdam and Adagrad keep scalars in it
    params = parameters(inputs, dtype)
    optimizers = make(params)
    rates = [[g["lr"] for g in o.param_groups] for o in optimizers]
    case = {"hyper": hyper, "dtype": str(dtype).removeprefix("torch."), "set": name, "tensors": on}
    if factors:
        case["lr_factors"] = factors
    if note:
        case["note"] = note
    case["at"], case["params"] = SNAPSHOTS[dtype], []
    if averaged:
        case["average"] = []
    for k, step in enumerate(inputs["sets"][name]):
        for i in ALL:
            params[i].grad = gradient(step["grads"][i], params[i])
        for o, rate in zip(optimizers, rates):
            for group, lr in zip(o.param_groups, rate):
                group["lr"] = lr * (factors[k] if factors else 1)
                for p in group["params"]:  # rows of a larger tensor have their rows of its gradient
                    if p._base is not None:
                        whole = p._base
                        p.grad = None if whole.grad is None else whole.grad.as_strided(p.shape, p.stride(), p.storage_offset())
            o.step()
        if k + 1 in case["at"]:
            case["params"].append([flat(params[i]) for i in on])
            if averaged:
                trained = [p.clone() for p in params]  # there and back would round
                for o in optimizers:
                    o.eval()
                case["average"].append([flat(params[i]) for i in on])
                for o in optimizers:
                    o.train()
                for p, value in zip(params, trained):
                    p.copy_(value)
    assert all(worst([a], [inputs["init"][i]]) > 0 for i, a in zip(on, case["params"][-1])), "a tensor did not move"
    return case


def grid(inputs, make, settings, **more):
    """Every setting in both types on set A, and the first on set B."""
    cases = []
    for i, hyper in enumerate(settings):
        for dtype in (torch.float64, torch.float32):
            for name in "AB" if i == 0 else "A":
                cases.append(record(inputs, lambda p, h=hyper: make(p, h), hyper, dtype, name, **more))
    return cases


def scheduled(inputs, make, hyper, **more):
    return [record(inputs, lambda p: make(p, hyper), hyper, torch.float64, "A", factors=FACTORS, **more)]


def lion(inputs):
    from lion_pytorch import Lion

    make = lambda p, h: [Lion(p, **h)]  # noqa: E731
    settings = [
        {"lr": 0.01, "betas": [0.9, 0.99], "weight_decay": 0.0},
        {"lr": 0.01, "betas": [0.9, 0.99], "weight_decay": 0.1},
        {"lr": 0.003, "betas": [0.95, 0.98], "weight_decay": 1.0},
    ]
    return grid(inputs, make, settings) + scheduled(inputs, make, settings[1])


def rmsprop(inputs):
    make = lambda p, h: [torch.optim.RMSprop(p, foreach=False, **h)]  # noqa: E731
    base = {"lr": 0.01, "alpha": 0.99, "eps": 1e-8, "weight_decay": 0.0, "momentum": 0.0, "centered": False}
    settings = [
        base,
        base | {"weight_decay": 0.1},
        base | {"momentum": 0.9},
        base | {"centered": True, "eps": 1e-3},
        base | {"centered": True, "momentum": 0.9, "weight_decay": 0.1, "alpha": 0.9, "eps": 1e-3},
    ]
    return grid(inputs, make, settings) + scheduled(inputs, make, settings[2])


def adagrad(inputs):
    make = lambda p, h: [torch.optim.Adagrad(p, foreach=False, **h)]  # noqa: E731
    base = {"lr": 0.1, "lr_decay": 0.0, "eps": 1e-10, "weight_decay": 0.0, "initial_accumulator_value": 0.0}
    settings = [base, base | {"weight_decay": 0.1}, base | {"lr_decay": 0.05, "initial_accumulator_value": 0.1, "eps": 1e-3}]
    return grid(inputs, make, settings) + scheduled(inputs, make, settings[0])


def nadam(inputs):
    make = lambda p, h: [torch.optim.NAdam(p, foreach=False, **h)]  # noqa: E731
    base = {"lr": 0.01, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.0, "momentum_decay": 4e-3, "decoupled_weight_decay": False}
    settings = [
        base,
        base | {"weight_decay": 0.1},
        base | {"weight_decay": 0.1, "decoupled_weight_decay": True},
        base | {"betas": [0.8, 0.95], "eps": 1e-3, "momentum_decay": 0.05},
    ]
    return grid(inputs, make, settings) + scheduled(inputs, make, settings[2])


def adafactor(inputs):
    make = lambda p, h: [torch.optim.Adafactor(p, foreach=False, **(h | {"eps": tuple(h["eps"])}))]  # noqa: E731
    base = {"lr": 0.05, "beta2_decay": -0.8, "eps": [None, 1e-3], "d": 1.0, "weight_decay": 0.0}
    settings = [base, base | {"weight_decay": 0.1}, base | {"beta2_decay": -0.5, "d": 2.0, "eps": [1e-6, 0.1]}]
    return grid(inputs, make, settings) + scheduled(inputs, make, settings[1])


@contextmanager
def own_precision():
    """torch.optim.Muon iterates in bfloat16; with this, in its parameters' type."""
    cast = torch.Tensor.bfloat16
    torch.Tensor.bfloat16 = torch.Tensor.clone  # the iteration divides in place
    try:
        yield
    finally:
        torch.Tensor.bfloat16 = cast


def muon(inputs):
    def alone(p, h):
        return [torch.optim.Muon([p[i] for i in TWO_DIMENSIONAL], **(h | {"ns_coefficients": tuple(h["ns_coefficients"])}))]

    def beside_adamw(p, h):
        matrices = [p[i] for i in MATRICES if TENSORS[i][3] == 1]
        matrices += list(p[5].chunk(TENSORS[5][3]))  # views: each gate a matrix of its own
        own = {k: v for k, v in h.items() if not k.startswith("adamw_")} | {"ns_coefficients": tuple(h["ns_coefficients"])}
        rest = torch.optim.AdamW([p[3], p[4]], lr=h["lr"], betas=h["adamw_betas"], eps=h["adamw_eps"], weight_decay=h["weight_decay"], foreach=False)
        return [torch.optim.Muon(matrices, **own), rest]

    base = {
        "lr": 0.02, "weight_decay": 0.0, "momentum": 0.95, "nesterov": True,
        "ns_coefficients": [3.4445, -4.775, 2.0315], "eps": 1e-7, "ns_steps": 5, "adjust_lr_fn": "original",
    }
    settings = [
        base,
        base | {"weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"},
        base | {"nesterov": False, "momentum": 0.9, "ns_steps": 3},
        base | {"adjust_lr_fn": "match_rms_adamw", "ns_steps": 8, "ns_coefficients": [2.0, -1.5, 0.5]},
    ]
    both = base | {"weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw", "adamw_betas": [0.9, 0.99], "adamw_eps": 1e-8}
    exactly = "iterations in the type of the parameters, not in bfloat16"
    rest = "gates split into three matrices; bias and embedding by AdamW with the same rate; " + exactly
    with own_precision():
        cases = grid(inputs, alone, settings, on=TWO_DIMENSIONAL, note=exactly)
        cases += grid(inputs, beside_adamw, [both], note=rest) + scheduled(inputs, beside_adamw, both, note=rest)
    published = "as published: iterations in bfloat16, whose rounding depends on the processor; compare loosely"
    for hyper in settings[:2]:
        cases.append(record(inputs, lambda p, h=hyper: alone(p, h), hyper, torch.float32, "A", on=TWO_DIMENSIONAL, note=published))
    return cases


def soap(inputs):
    from pytorch_optimizer import SOAP

    class Exact(SOAP):
        """SOAP with the power iteration in the parameters' type; the package rounds its QR to float32."""

        def get_orthogonal_matrix_qr(self, state, max_precondition_dim=10000, merge_dims=False):
            bases = []
            for i, (moment, basis) in enumerate(zip(state["GG"], state["Q"])):
                if len(moment) == 0:
                    bases.append([])
                    continue
                product = moment @ basis
                order = torch.argsort((basis * product).sum(dim=0), descending=True)
                state["exp_avg_sq"] = state["exp_avg_sq"].index_select(i, order)
                bases.append(torch.linalg.qr(product.index_select(1, order))[0])
            return bases

    # An embedding's and the gates' left factor is left out (max_precondition_dim): of
    # fewer columns than rows, it starts singular, and its null space has no basis of its own.
    base = {
        "lr": 0.01, "betas": [0.95, 0.95], "shampoo_beta": None, "weight_decay": 0.0, "precondition_frequency": 10,
        "max_precondition_dim": 5, "precondition_1d": False, "correct_bias": True, "normalize_gradient": False, "eps": 1e-8,
    }
    settings = [
        base,
        base | {"weight_decay": 0.1, "precondition_frequency": 3},
        base | {"betas": [0.9, 0.99], "shampoo_beta": 0.9, "precondition_frequency": 1, "eps": 1e-4},
        base | {"correct_bias": False, "normalize_gradient": True, "precondition_frequency": 4},
    ]
    make = lambda p, h: [Exact(p, **(h | {"betas": tuple(h["betas"])}))]  # noqa: E731
    published = lambda p, h: [SOAP(p, **(h | {"betas": tuple(h["betas"])}))]  # noqa: E731
    cases = []
    for hyper in settings:
        for dtype in (torch.float64, torch.float32):
            case = record(inputs, lambda p, h=hyper: make(p, h), hyper, dtype, "A", note="QR in the type of the parameters")
            theirs = record(inputs, lambda p, h=hyper: published(p, h), hyper, dtype, "A")
            off = max(map(worst, case["params"], theirs["params"]))
            assert off < 2e-5, off
            cases.append(case)
    return cases + scheduled(inputs, make, settings[1], note="QR in the type of the parameters")


def schedule_free_adamw(inputs):
    from schedulefree import AdamWScheduleFree

    def make(p, h):
        o = AdamWScheduleFree(p, foreach=False, **(h | {"betas": tuple(h["betas"])}))
        o.train()
        return [o]

    base = {"lr": 0.01, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.0, "warmup_steps": 0, "r": 0.0, "weight_lr_power": 2.0}
    settings = [
        base,
        base | {"weight_decay": 0.1, "warmup_steps": 10},
        base | {"betas": [0.95, 0.99], "r": 1.0, "weight_lr_power": 0.0, "eps": 1e-3},
    ]
    more = {"averaged": True, "note": "params: y, where the gradient is taken; average: x, which is evaluated"}
    return grid(inputs, make, settings, **more) + scheduled(inputs, make, settings[1], **more)


def koala_k_cases(inputs):
    base = {
        "lr": 1.0, "sigma": 0.01, "q": 1e-3, "q_power": 0.0, "r": None, "alpha_r": 0.9, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.0,
        "target": 0.0, "nesterov": True, "orthogonal": "exact", "n2": "direction", "innovation": "signed",
    }
    schulz = base | {"orthogonal": "newton-schulz", "ns_steps": 5, "ns_coefficients": [3.4445, -4.775, 2.0315], "ns_eps": 1e-7}
    settings = [
        (base, "A", None), (base, "B", None), (schulz, "A", None), (schulz, "B", None),
        (schulz | {"weight_decay": 0.1}, "A", None),
        (schulz | {"weight_decay": 0.1, "target": 1.2}, "A", FACTORS),
        (schulz | {"target": 2.0}, "A", None),
        (schulz | {"target": 2.0, "innovation": "positive"}, "A", None),
        (schulz | {"nesterov": False}, "A", None),
        (schulz | {"sigma": 0.1, "q": 0.01, "beta1": 0.95, "beta2": 0.999, "eps": 1e-3, "alpha_r": 0.99}, "A", None),
        (schulz | {"r": 10.0, "ns_steps": 3}, "A", None),
        (base | {"n2": "gradient"}, "A", None), (schulz | {"n2": "gradient"}, "B", None),
        (schulz | {"n2": "mixed"}, "B", None),
        (schulz | {"n2": "mean"}, "A", None), (schulz | {"n2": "mean", "weight_decay": 0.1, "target": 1.2}, "B", FACTORS),
        (schulz | {"n2": "frobenius"}, "A", None), (schulz | {"n2": "frobenius", "weight_decay": 0.1, "target": 1.2}, "B", FACTORS),
    ]
    built = schulz | {"n2": "frobenius"}
    more = [
        (built | {"nesterov": False, "r": 10.0, "ns_steps": 3}, "A", None),
        (built | {"sigma": 0.1, "q": 0.01, "beta1": 0.95, "beta2": 0.999, "eps": 1e-3, "alpha_r": 0.99}, "B", None),
        (built | {"q_power": 3.0, "weight_decay": 0.1}, "A", FACTORS),
        (built | {"q_power": 1.0, "sigma": 0.1, "target": 1.2}, "B", None),
    ]
    powers_scale = 0.125  # of gradients whose norms would be above 1 nearly always, where q_power does nothing
    settings = [(*s, torch.float64) for s in settings + more] + [(*s, torch.float32) for s in settings[-2:] + more]
    cases, negative = [], 0
    for hyper, name, factors, dtype in settings:
        numpy_type = np.float32 if dtype == torch.float32 else np.float64
        params = [np.array(v, numpy_type).reshape(t["shape"]) for v, t in zip(inputs["init"], inputs["tensors"])]
        splits = [t["matrices"] for t in inputs["tensors"]]
        o = koala_k.KoalaK(params, splits, hyper)
        case = {"hyper": hyper, "dtype": str(dtype).removeprefix("torch."), "set": name, "tensors": ALL}
        if factors:
            case["lr_factors"] = factors
        scale = powers_scale if hyper["q_power"] else 1.0
        if scale != 1:
            case["gradient_scale"] = scale
        case |= {"at": SNAPSHOTS[dtype], "params": [], "scalars": []}
        for k, step in enumerate(inputs["sets"][name]):
            grads = [None if g is None else scale * np.array(g, numpy_type).reshape(p.shape) for g, p in zip(step["grads"], params)]
            scalars = o.update(step["loss"], step["mean_square"], grads, factors[k] if factors else 1.0)
            negative += scalars["n2"] == 0
            if k + 1 in case["at"]:
                case["scalars"].append({k: exact(v) for k, v in scalars.items()})
                case["params"].append([flat(p) for p in params])
        assert all(p.dtype == numpy_type for p in params + o.m + o.v)
        cases.append(case)
    assert negative, "no case has a negative n2"
    return cases


def worst(a, b):
    """The largest difference of two lists of flat tensors."""
    return max(abs(x - y) for p, q in zip(a, b) for x, y in zip(p, q))


KINDS = {
    "lion": (lion, "Chen et al. 2023, Symbolic Discovery of Optimization Algorithms", ["lion-pytorch"]),
    "rmsprop": (rmsprop, "Hinton 2012; torch.optim.RMSprop", ["torch"]),
    "adagrad": (adagrad, "Duchi et al. 2011; torch.optim.Adagrad", ["torch"]),
    "nadam": (nadam, "Dozat 2016; torch.optim.NAdam", ["torch"]),
    "adafactor": (adafactor, "Shazeer and Stern 2018; torch.optim.Adafactor", ["torch"]),
    "muon": (muon, "Jordan et al. 2024; torch.optim.Muon, and torch.optim.AdamW for the rest", ["torch"]),
    "soap": (soap, "Vyas et al. 2024", ["pytorch-optimizer", "torch"]),
    "schedule-free-adamw": (schedule_free_adamw, "Defazio et al. 2024, The Road Less Scheduled", ["schedulefree", "torch"]),
    "koala-k": (koala_k_cases, "koala_k.py, from the definition", ["numpy"]),
}


def pinned():
    for line in (HERE / "requirements.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, version = line.split("==")
            found = importlib.metadata.version(name)
            if found.split("+")[0] != version:
                sys.exit(f"make_references: {name} is {found}; install {version}")
            yield name, version


def write(name, value):
    """One line a case, so that a difference can be read."""
    head = {k: v for k, v in value.items() if k != "cases"}
    text = json.dumps(head, separators=(",", ":"))
    if "cases" in value:
        lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in value["cases"])
        text = text[:-1] + ',"cases":[\n' + lines + "\n]}"
    (HERE / name).write_text(text + "\n")
    print(f"{name}: {len(text):,} bytes")


def main():
    torch.set_num_threads(1)
    versions = dict(pinned())
    inputs = make_inputs()
    write("inputs.json", inputs)
    for kind in sys.argv[1:] or KINDS:
        make, source, packages = KINDS[kind]
        write(f"{kind}.json", {"kind": kind, "source": source, "versions": {p: versions[p] for p in packages}, "cases": make(inputs)})


if __name__ == "__main__":
    main()
