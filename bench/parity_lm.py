"""Trains the small LSTM in PyTorch and prints each epoch's perplexities: what ours has to reach.

README.md has the commands and what they gave.
"""

import argparse
import math
import time

import peer

flags = argparse.ArgumentParser(description=__doc__)
flags.add_argument("--data", required=True, help="a folder that koala-lm prepare made")
flags.add_argument("--optimizer", choices=["sgd", "koala-v"], default="sgd")
flags.add_argument("--lr", type=float, help="default: 20 for sgd, 1 for koala-v")
flags.add_argument("--clip", type=float, default=0.25, help="for sgd alone")
flags.add_argument("--anneal", action="store_true", help="quarter lr after an epoch without a new best on valid")
flags.add_argument("--sigma", type=float, default=0.1)
flags.add_argument("--q", type=float, default=1.0)
flags.add_argument("--epochs", type=int, default=2)
flags.add_argument("--seeds", type=int, nargs="+", default=[1])
flags.add_argument("--dropout", type=float, default=0.2)
flags.add_argument("--batch", type=int, default=20)
flags.add_argument("--bptt", type=int, default=35)
flags.add_argument("--threads", type=int, default=1)
args = flags.parse_args()
peer.tune_allocator()

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from lstm_model import LSTM, windows  # noqa: E402


def evaluate(model, data):
    """exp of the mean nats over every token but each text's first."""
    model.eval()
    state, nats = model.zero_state(data.shape[1]), 0.0
    with torch.no_grad():
        for x, y in windows(data, 10 * args.bptt):
            logits, state = model(x, state)
            nats += F.cross_entropy(logits, y, reduction="sum").item()
    model.train()
    return math.exp(nats / ((len(data) - 1) * data.shape[1]))


class SGD:
    """word_language_model's: clip by norm, then p -= lr g."""

    def __init__(self, params, lr, clip):
        self.params, self.lr, self.clip = params, lr, clip

    def predict(self):
        pass

    def update(self, loss, loss_var):
        torch.nn.utils.clip_grad_norm_(self.params, self.clip)
        with torch.no_grad():
            for p in self.params:
                p.add_(p.grad, alpha=-self.lr)


def train_epoch(model, optimizer, data):
    """exp of the mean nats of the epoch's predictions, as they were made."""
    state, nats, count = model.zero_state(args.batch), 0.0, 0
    for x, y in windows(data, args.bptt):
        state = tuple(s.detach() for s in state)
        model.zero_grad()
        optimizer.predict()
        logits, state = model(x, state)
        losses = F.cross_entropy(logits, y, reduction="none")
        loss = losses.mean()
        loss.backward()
        optimizer.update(loss.item(), losses.detach().square().mean().item())
        nats, count = nats + loss.item() * len(y), count + len(y)
    return math.exp(nats / count)


torch.set_num_threads(args.threads)
ids, vocab = peer.load_tokens(args.data)
data = torch.from_numpy(peer.contiguous(ids, args.batch))
valid = torch.from_numpy(peer.contiguous(peer.load_tokens(args.data, "valid")[0], 1)) if peer.has_split(args.data, "valid") else None
print(f"{len(ids)} tokens, vocabulary {vocab}", flush=True)
for seed in args.seeds:
    torch.manual_seed(seed)
    model = LSTM(vocab, dropout=args.dropout)
    params = list(model.parameters())
    if args.optimizer == "sgd":
        optimizer = SGD(params, args.lr or 20.0, args.clip)
    else:
        optimizer = peer.KoalaV(params, args.sigma, args.q, lr=args.lr or 1.0)
    best = math.inf
    for epoch in range(1, args.epochs + 1):
        started = time.time()
        line = f"seed {seed} epoch {epoch}: epoch_ppl {train_epoch(model, optimizer, data):.2f}"
        if valid is not None:
            ppl = evaluate(model, valid)
            line += f", val_ppl {ppl:.2f}"
            if args.anneal and ppl >= best:
                optimizer.lr /= 4
            best = min(best, ppl)
        print(f"{line}, {time.time() - started:.0f} s", flush=True)
