"""Trains the small LSTM in PyTorch and prints each epoch's perplexity: what ours has to reach.

TEXT is tokenised as koala-lm's word tokenizer does; with --data a prepared folder is used, and its valid split scored.
"""

import argparse
import collections
import math
import time

import numpy as np
import peer
import torch
import torch.nn.functional as F
from lstm_model import LSTM, windows

flags = argparse.ArgumentParser(description=__doc__)
source = flags.add_mutually_exclusive_group(required=True)
source.add_argument("--text", help="a text file, all of it for training")
source.add_argument("--data", help="a folder that koala-lm prepare made")
flags.add_argument("--optimizer", choices=["sgd", "koala-v"], default="sgd")
flags.add_argument("--lr", type=float, help="default: 20 for sgd, 1 for koala-v")
flags.add_argument("--clip", type=float, help="default: 0.25 for sgd, none for koala-v")
flags.add_argument("--sigma", type=float, default=0.1)
flags.add_argument("--q", type=float, default=1.0)
flags.add_argument("--epochs", type=int, default=2)
flags.add_argument("--seed", type=int, default=1)
flags.add_argument("--dropout", type=float, default=0.2)
flags.add_argument("--batch", type=int, default=20)
flags.add_argument("--bptt", type=int, default=35)
args = flags.parse_args()
sgd = args.optimizer == "sgd"
lr = args.lr or (20.0 if sgd else 1.0)
clip = args.clip or (0.25 if sgd else math.inf)


def word_ids(path):
    """Words at white space, <eos> after every line; ids by falling frequency, then first appearance."""
    words = [w for line in open(path, encoding="utf-8") for w in line.split() + ["<eos>"]]
    ids = {w: i for i, (w, _) in enumerate(collections.Counter(words).most_common())}
    return np.array([ids[w] for w in words]), len(ids)


def evaluate(model, data):
    """exp of the mean nats over every token but each text's first."""
    model.eval()
    state, nats = model.zero_state(data.shape[1]), 0.0
    with torch.no_grad():
        for x, y in windows(data, args.bptt):
            logits, state = model(x, state)
            nats += F.cross_entropy(logits, y, reduction="sum").item()
    model.train()
    return math.exp(nats / ((len(data) - 1) * data.shape[1]))


if args.text:
    ids, vocab = word_ids(args.text)
    valid = None
else:
    ids, vocab = peer.load_tokens(args.data)
    valid = torch.from_numpy(peer.contiguous(peer.load_tokens(args.data, "valid")[0], 1))
data = torch.from_numpy(peer.contiguous(ids, args.batch))
print(f"{len(ids)} tokens, vocabulary {vocab}", flush=True)

torch.manual_seed(args.seed)
model = LSTM(vocab, dropout=args.dropout)
params = list(model.parameters())
koala = None if sgd else peer.KoalaV(params, args.sigma, args.q, lr=lr)
for epoch in range(1, args.epochs + 1):
    state, nats, count, start = model.zero_state(args.batch), 0.0, 0, time.time()
    for x, y in windows(data, args.bptt):
        state = tuple(s.detach() for s in state)
        model.zero_grad()
        if koala:
            koala.predict()
        logits, state = model(x, state)
        losses = F.cross_entropy(logits, y, reduction="none")
        loss = losses.mean()
        loss.backward()
        if koala:
            koala.update(loss.item(), losses.detach().square().mean().item())
        else:
            torch.nn.utils.clip_grad_norm_(params, clip)
            with torch.no_grad():
                for p in params:
                    p.add_(p.grad, alpha=-lr)
        nats, count = nats + loss.item() * len(y), count + len(y)
    line = f"epoch {epoch}: epoch_ppl {math.exp(nats / count):.1f}"
    if valid is not None:
        line += f", val_ppl {evaluate(model, valid):.1f}"
    print(f"{line}, {time.time() - start:.0f} s", flush=True)
