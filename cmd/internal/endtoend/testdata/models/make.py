"""make.py: small models in PyTorch and transformers, and what they give: the loss on valid.txt before and after four
steps of SGD, in float32 and bfloat16, and greedy texts.

    make peers && PYTHONPATH=<the peers' folder> python3 cmd/internal/endtoend/testdata/models/make.py
"""
import json, math, os, random
import torch, transformers
from torch import nn
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
torch.set_num_threads(1)
EMBED, HIDDEN, CONTEXT, BPTT, STEPS, LR, NEW = 16, 24, 24, 8, 4, 0.5, 8
CUTOFFS = [40, 120]
PROMPTS = ["the koala sees a", "leaf koala sees a", "green and koala sees a"]


def text(seed, n):
    r, words = random.Random(seed), "the a koala tree leaf sleeps eats climbs sees slowly high green and then".split()
    return " ".join(r.choice(words) for _ in range(n)) + "\n"


for name, seed, n in (("train", 1, 400), ("valid", 2, 60)):
    open(os.path.join(HERE, name + ".txt"), "w").write(text(seed, n))
tok = Tokenizer(models.BPE())
tok.pre_tokenizer, tok.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
tok.train([os.path.join(HERE, "train.txt")], trainers.BpeTrainer(
    vocab_size=280, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
tok.save(os.path.join(HERE, "tokenizer.json"))
V = tok.get_vocab_size()
ids = {name: tok.encode(open(os.path.join(HERE, name + ".txt")).read()).ids for name in ("train", "valid")}


class Recurrent(nn.Module):
    """word_language_model's, with the names that it gives its tensors."""

    def __init__(self, kind, layers, tied, adaptive=False):
        super().__init__()
        hidden = EMBED if tied and layers == 1 else HIDDEN
        self.encoder = nn.Embedding(V, EMBED)
        sizes = [HIDDEN] * (layers - 1) + [EMBED if tied else HIDDEN]
        self.cells = [getattr(nn, kind)(i, o) for i, o in zip([EMBED] + sizes[:-1], sizes)]
        self.adaptive = adaptive
        if adaptive:
            self.decoder = nn.AdaptiveLogSoftmaxWithLoss(sizes[-1], V, CUTOFFS, div_value=4, head_bias=True)
        else:
            self.decoder = nn.Linear(sizes[-1], V)
            if tied:
                self.decoder.weight = self.encoder.weight
        self.tied = tied
        for i, cell in enumerate(self.cells):
            self.add_module(f"cell{i}", cell)
        self.state = None

    def names(self):
        out = {}
        for n, p in self.named_parameters():
            if n.startswith("cell"):
                i, rest = n[4:].split(".", 1)
                n = "rnn." + rest.replace("_l0", "_l" + i)
            out[n] = p
        return out

    def features(self, x, carry=True):  # x: [T]
        y, states = self.encoder(x).unsqueeze(1), []
        for i, cell in enumerate(self.cells):
            y, s = cell(y, self.state[i] if carry and self.state else None)
            states.append(tuple(t.detach() for t in s) if isinstance(s, tuple) else s.detach())
        self.state = states
        return y.squeeze(1)

    def loss(self, x, y):
        h = self.features(x)
        if self.adaptive:
            with torch.autocast("cpu", enabled=False):  # it does not run in bfloat16
                return self.decoder(h.float(), y).loss
        return nn.functional.cross_entropy(self.decoder(h).float(), y)

    def scores(self, text):
        self.state = None
        h = self.features(torch.tensor(text))[-1:]
        return self.decoder.log_prob(h)[0] if self.adaptive else self.decoder(h)[0]


class Window(nn.Module):
    def __init__(self, model, adaptive=False):
        super().__init__()
        self.model = model

    def names(self):
        return {n: p for n, p in self.model.named_parameters()}

    def loss(self, x, y):
        return nn.functional.cross_entropy(self.model(x.unsqueeze(0)).logits[0].float(), y)

    def scores(self, text):
        return self.model(torch.tensor([text])).logits[0, -1]


gpt2 = lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config(
    vocab_size=V, n_positions=CONTEXT, n_embd=EMBED, n_layer=2, n_head=2, n_inner=HIDDEN, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0))
llama = lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(
    vocab_size=V, max_position_embeddings=CONTEXT, hidden_size=EMBED, intermediate_size=HIDDEN, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, rms_norm_eps=1e-5, tie_word_embeddings=False))
MODELS = {
    "lstm": lambda: Recurrent("LSTM", 2, True), "gru": lambda: Recurrent("GRU", 1, False),
    "adaptive": lambda: Recurrent("LSTM", 1, False, adaptive=True), "gpt2": lambda: Window(gpt2()), "llama": lambda: Window(llama()),
}


def evaluate(m):
    """Mean nats of valid: the state carried through, or windows of the context."""
    text, total = ids["valid"], 0.0
    length = BPTT if isinstance(m, Recurrent) else CONTEXT
    m.state = None
    with torch.no_grad():
        for i in range(0, len(text) - 1, length):
            y = text[i + 1 : i + length + 1]
            total += m.loss(torch.tensor(text[i : i + len(y)]), torch.tensor(y)).item() * len(y)
    return total / (len(text) - 1)


def greedy(m):
    texts, margin = [], math.inf
    with torch.no_grad():
        for prompt in PROMPTS:
            made = tok.encode(prompt).ids
            n = len(made)
            for _ in range(NEW):
                scores = m.scores(made)
                best = torch.topk(scores, 2).values
                margin = min(margin, (best[0] - best[1]).item())
                made.append(int(scores.argmax()))
            margin = 0 if 0 in made else margin  # the token that ends a text
            texts.append(tok.decode(made[n:]))
    return texts, margin


expected = {}
for name, make in MODELS.items():
    for seed in range(100):  # until the greedy texts are clear and differ
        torch.manual_seed(seed)
        m = make()
        with torch.no_grad():
            for n, p in m.names().items():
                if p.dim() > 1:
                    p.normal_(0, 1.5 / math.sqrt(p.shape[-1]))
                elif "norm" in n or "ln_" in n:
                    p.normal_(0 if n.endswith("bias") else 1, 0.2)
                else:
                    p.normal_(0, 0.1)
        start = {n: p.detach().clone() for n, p in m.names().items()}
        record = {"loss": evaluate(m)}
        for precision in ("float32", "bfloat16"):
            with torch.no_grad():
                for n, p in m.names().items():
                    p.copy_(start[n])
            optimizer = torch.optim.SGD(m.parameters(), lr=LR)
            length, m.state = (BPTT if isinstance(m, Recurrent) else CONTEXT), None
            for k in range(STEPS):
                window = ids["train"][k * length : (k + 1) * length + 1]
                optimizer.zero_grad()
                with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                    loss = m.loss(torch.tensor(window[:-1]), torch.tensor(window[1:]))
                loss.backward()
                optimizer.step()
            record[precision] = {"loss": evaluate(m)}
            record[precision]["texts"], margin = greedy(m)
            if precision == "float32":
                clear = margin > 1e-3 and len(set(record[precision]["texts"])) == len(PROMPTS)
            else:
                del record[precision]["texts"]
        if clear:
            break
    assert clear, name
    save_file({n: t.contiguous() for n, t in start.items() if not (n == "lm_head.weight" and name == "gpt2")},
              os.path.join(HERE, name + ".safetensors"), metadata={"format": "pt"})
    expected[name] = record
json.dump({"prompts": PROMPTS, "models": expected}, open(os.path.join(HERE, "expected.json"), "w"), indent=1)
print(json.dumps(expected, indent=1))
