"""make_recurrent.py: small recurrent models with random weights, and the losses that
docs/read_recurrent.py computes with them.

    make peers && PYTHONPATH=<the peers' folder>:docs python3 lm/checkpoint/testdata/make_recurrent.py
"""

import json
import os

import torch
from safetensors.torch import save_file

from read_recurrent import loss

HERE = os.path.dirname(os.path.abspath(__file__))
VOCAB, EMBED, HIDDEN = 23, 6, 8
IDS = [(5 * i * i + 3 * i) % VOCAB for i in range(40)]


def weights(gates, tied, tails=()):
    torch.manual_seed(gates + len(tails))
    draw = lambda *shape: torch.randn(*shape) * 0.7
    last = EMBED if tied else HIDDEN
    w = {"encoder.weight": draw(VOCAB, EMBED)}
    for layer, (inputs, units) in enumerate([(EMBED, HIDDEN), (HIDDEN, last)]):
        w |= {
            f"rnn.weight_ih_l{layer}": draw(gates * units, inputs), f"rnn.weight_hh_l{layer}": draw(gates * units, units),
            f"rnn.bias_ih_l{layer}": draw(gates * units), f"rnn.bias_hh_l{layer}": draw(gates * units),
        }
    if not tails:
        w |= {"decoder.bias": draw(VOCAB)} | ({} if tied else {"decoder.weight": draw(VOCAB, last)})
        return w
    w |= {"decoder.head.weight": draw(tails[0] + len(tails), last), "decoder.head.bias": draw(tails[0] + len(tails))}
    for i, (start, end) in enumerate(zip(tails, [*tails[1:], VOCAB])):
        width = last // 4 ** (i + 1)
        w |= {f"decoder.tail.{i}.0.weight": draw(width, last), f"decoder.tail.{i}.1.weight": draw(end - start, width)}
    return w


losses = {"ids": IDS}
for name, of in {"lstm": weights(4, False), "lstm-tied": weights(4, True), "gru": weights(3, False), "gru-adaptive": weights(3, False, (10,))}.items():
    path = os.path.join(HERE, f"recurrent-{name}.safetensors")
    save_file(of, path, metadata={"format": "pt"})
    losses[name] = loss(path, IDS)
with open(os.path.join(HERE, "recurrent.json"), "w") as f:
    json.dump(losses, f, indent=1)
    f.write("\n")
