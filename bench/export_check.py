"""Loads a folder that `koala-lm export --to huggingface` wrote with the transformers
package and prints its loss on a text, for comparison with `koala-lm eval FOLDER TEXT`."""

import argparse
import json

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

flags = argparse.ArgumentParser(description=__doc__)
flags.add_argument("folder")
flags.add_argument("text")
args = flags.parse_args()

model, missing = AutoModelForCausalLM.from_pretrained(args.folder, output_loading_info=True)
tokenizer = AutoTokenizer.from_pretrained(args.folder)
text = open(args.text, encoding="utf-8", newline="").read()
ids = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])
context = model.config.max_position_embeddings
nats = 0.0
with torch.no_grad():
    for i in range(0, len(ids) - 1, context):
        x = ids[i : i + context + 1]
        logits = model(x[:-1].unsqueeze(0)).logits[0]
        nats += torch.nn.functional.cross_entropy(logits, x[1:], reduction="sum").item()
print(json.dumps({
    "class": type(model).__name__,
    "loss": nats / (len(ids) - 1),
    "tokens": len(ids) - 1,
    "missing": sorted(missing["missing_keys"]),
    "unexpected": sorted(missing["unexpected_keys"]),
}))
