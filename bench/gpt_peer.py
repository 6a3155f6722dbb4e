"""Times a training step of a GPT in nanoGPT's shape in PyTorch; prints one line of JSON."""

import argparse

import peer

flags = argparse.ArgumentParser(description=__doc__)
flags.add_argument("--data", help="a folder that koala-lm prepare made; without it random ids")
flags.add_argument("--vocab", type=int, help="without --data (default 65: Shakespeare's characters)")
flags.add_argument("--layers", type=int, default=4)
flags.add_argument("--heads", type=int, default=4)
flags.add_argument("--embed", type=int, default=128)
flags.add_argument("--context", type=int, default=64)
flags.add_argument("--batch", type=int, default=12)
flags.add_argument("--compile", action="store_true", help="torch.compile")
flags.add_argument("--device", default="cpu", help="cpu or cuda")
flags.add_argument("--precision", choices=["float32", "tf32", "bfloat16"], default="float32", help="bfloat16: products under autocast")
flags.add_argument("--threads", type=int, default=0, help="0: PyTorch's choice")
flags.add_argument("--warmup", type=int, default=5)
flags.add_argument("--steps", type=int, default=100)
flags.add_argument("--tuned-allocator", action="store_true", help="glibc keeps what is freed, as in koala-lm")
args = flags.parse_args()
if args.tuned_allocator:
    peer.tune_allocator()

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402


class Block(nn.Module):
    def __init__(self, embed, heads):
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(embed, bias=False), nn.LayerNorm(embed, bias=False)
        self.qkv = nn.Linear(embed, 3 * embed, bias=False)
        self.out = nn.Linear(embed, embed, bias=False)
        self.up = nn.Linear(embed, 4 * embed, bias=False)
        self.down = nn.Linear(4 * embed, embed, bias=False)

    def forward(self, x):
        b, t, e = x.shape
        q, k, v = self.qkv(self.ln_1(x)).view(b, t, 3, self.heads, e // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, e))
        return x + self.down(F.gelu(self.up(self.ln_2(x))))


class GPT(nn.Module):
    def __init__(self, vocab, context, layers, heads, embed):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocab, embed), nn.Embedding(context, embed)
        self.blocks = nn.ModuleList(Block(embed, heads) for _ in range(layers))
        self.ln_f = nn.LayerNorm(embed, bias=False)
        self.head = nn.Linear(embed, vocab, bias=False)
        self.head.weight = self.wte.weight
        for name, p in self.named_parameters():
            if p.dim() == 2:
                residual = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(p, std=0.02 / (2 * layers) ** 0.5 if residual else 0.02)

    def forward(self, ids, targets):
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        return F.cross_entropy(self.head(self.ln_f(x)).flatten(0, 1), targets.flatten())


if args.threads:
    torch.set_num_threads(args.threads)
torch.manual_seed(1)
torch.set_float32_matmul_precision("high" if args.precision == "tf32" else "highest")

if args.data:
    ids, vocab = peer.load_tokens(args.data)
else:
    vocab = args.vocab or 65
    ids = peer.zipf_tokens(200_000, vocab)

gpt = GPT(vocab, args.context, args.layers, args.heads, args.embed).to(args.device)
params = list(gpt.parameters())
optimizer = torch.optim.AdamW(
    [{"params": [p for p in params if p.dim() >= 2], "weight_decay": 0.1},
     {"params": [p for p in params if p.dim() < 2], "weight_decay": 0.0}],
    lr=1e-3, betas=(0.9, 0.99))
model = torch.compile(gpt) if args.compile else gpt
rng = np.random.default_rng(1)

clock = peer.Stopwatch(args.warmup)
for _ in range(args.warmup + args.steps):
    starts = rng.integers(0, len(ids) - args.context - 1, size=args.batch)
    rows = torch.from_numpy(np.stack([ids[s : s + args.context + 1] for s in starts]))
    with clock:
        with torch.autocast(args.device, torch.bfloat16, enabled=args.precision == "bfloat16"):
            loss = model(rows[:, :-1].contiguous().to(args.device), rows[:, 1:].contiguous().to(args.device))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()

clock.report(
    args.batch * args.context,
    model=f"gpt {args.layers}x{args.embed} context {args.context}" + (" compiled" if args.compile else ""),
    vocab=vocab,
    optimizer="adamw",
    allocator="tuned" if args.tuned_allocator else "default",
)
