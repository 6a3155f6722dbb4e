"""Times a training step of word_language_model's LSTM in PyTorch; prints one line of JSON."""

import argparse
import itertools

import peer

flags = argparse.ArgumentParser(description=__doc__)
flags.add_argument("--data", help="a folder that koala-lm prepare made; without it ids with Zipf's frequencies")
flags.add_argument("--vocab", type=int, help="without --data, or larger than the data's (default 33278)")
flags.add_argument("--layers", type=int, default=2)
flags.add_argument("--hidden", type=int, default=200)
flags.add_argument("--batch", type=int, default=20)
flags.add_argument("--bptt", type=int, default=35)
flags.add_argument("--dropout", type=float, default=0.2)
flags.add_argument("--optimizer", choices=["sgd", "koala-v"], default="sgd")
flags.add_argument("--device", default="cpu", help="cpu or cuda")
flags.add_argument("--precision", choices=["float32", "tf32", "bfloat16"], default="float32", help="bfloat16: products under autocast")
flags.add_argument("--threads", type=int, default=0, help="0: PyTorch's choice")
flags.add_argument("--warmup", type=int, default=3)
flags.add_argument("--steps", type=int, default=20)
flags.add_argument("--tuned-allocator", action="store_true", help="glibc keeps what is freed, as in koala-lm")
args = flags.parse_args()
if args.tuned_allocator:
    peer.tune_allocator()

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from lstm_model import LSTM, windows  # noqa: E402

if args.threads:
    torch.set_num_threads(args.threads)
torch.manual_seed(1)
torch.set_float32_matmul_precision("high" if args.precision == "tf32" else "highest")

if args.data:
    ids, vocab = peer.load_tokens(args.data)
    vocab = max(vocab, args.vocab or 0)
else:
    vocab = args.vocab or 33278
    ids = peer.zipf_tokens(200_000, vocab)
data = torch.from_numpy(peer.contiguous(ids, args.batch)).to(args.device)

model = LSTM(vocab, args.hidden, args.hidden, args.layers, args.dropout).to(args.device)
params = list(model.parameters())
koala = peer.KoalaV(params, q=10.0) if args.optimizer == "koala-v" else None
state = tuple(s.to(args.device) for s in model.zero_state(args.batch))
model.train()

clock = peer.Stopwatch(args.warmup)
full = (w for w in itertools.cycle(windows(data, args.bptt)) if len(w[0]) == args.bptt)
for x, y in itertools.islice(full, args.warmup + args.steps):
    with clock:
        state = tuple(s.detach() for s in state)
        model.zero_grad()
        if koala:
            koala.predict()
        with torch.autocast(args.device, torch.bfloat16, enabled=args.precision == "bfloat16"):
            logits, state = model(x, state)
        logits, state = logits.float(), tuple(s.float() for s in state)
        if koala:
            losses = F.cross_entropy(logits, y, reduction="none")
            loss = losses.mean()
            loss.backward()
            koala.update(loss.item(), losses.detach().square().mean().item())
        else:
            loss = F.nll_loss(F.log_softmax(logits, dim=1), y)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(params, 0.25)
            for p in params:
                p.data.add_(p.grad, alpha=-20.0)
            loss.item()

clock.report(
    args.batch * args.bptt,
    model=f"lstm {args.layers}x{args.hidden} tied",
    vocab=vocab,
    optimizer=args.optimizer,
    allocator="tuned" if args.tuned_allocator else "default",
)
