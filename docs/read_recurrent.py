"""Reads an LSTM or a GRU that `koala-lm export --to safetensors` wrote, and prints the mean
loss, in nats, of each token of a list but the first:

    python3 read_recurrent.py lstm.safetensors '[5, 17, 3, 8]'
"""

import json
import sys

import torch
from safetensors.torch import load_file
from torch import nn


class Recurrent(nn.Module):
    def __init__(self, weights):
        super().__init__()
        self.encoder = nn.Embedding.from_pretrained(weights["encoder.weight"])
        self.layers = nn.ModuleList()
        while f"rnn.weight_ih_l{len(self.layers)}" in weights:
            end = f"_l{len(self.layers)}"
            own = {n.removeprefix("rnn.").removesuffix(end): w for n, w in weights.items() if n.startswith("rnn.") and n.endswith(end)}
            rows, units = own["weight_hh"].shape
            layer = (nn.LSTM if rows == 4 * units else nn.GRU)(own["weight_ih"].shape[1], units)
            layer.load_state_dict({n + "_l0": w for n, w in own.items()})
            self.layers.append(layer)
        vocab = len(weights["encoder.weight"])
        if "decoder.head.weight" in weights:
            tails = sum(n.endswith(".1.weight") for n in weights if n.startswith("decoder.tail."))
            cutoffs = [len(weights["decoder.head.weight"]) - tails]
            for i in range(tails - 1):
                cutoffs.append(cutoffs[-1] + len(weights[f"decoder.tail.{i}.1.weight"]))
            self.decoder = nn.AdaptiveLogSoftmaxWithLoss(units, vocab, cutoffs, head_bias=True)
            self.decoder.load_state_dict({n.removeprefix("decoder."): w for n, w in weights.items() if n.startswith("decoder.")})
        else:
            self.decoder = nn.Linear(units, vocab)
            tied = weights["encoder.weight"]
            self.decoder.load_state_dict({"weight": weights.get("decoder.weight", tied), "bias": weights["decoder.bias"]})

    def forward(self, ids, states=None):
        """ids [time, batch] -> log-probabilities [time, batch, vocab] and the states after."""
        x, after = self.encoder(ids), []
        for i, layer in enumerate(self.layers):
            x, state = layer(x, states[i] if states else None)
            after.append(state)
        if isinstance(self.decoder, nn.Linear):
            return self.decoder(x).log_softmax(-1), after
        return self.decoder.log_prob(x.flatten(0, 1)).view(*ids.shape, -1), after


def loss(path, ids):
    ids = torch.tensor(ids)
    with torch.no_grad():
        log_probs, _ = Recurrent(load_file(path))(ids[:-1, None])
    return nn.functional.nll_loss(log_probs[:, 0], ids[1:]).item()


if __name__ == "__main__":
    print(loss(sys.argv[1], json.loads(sys.argv[2])))
