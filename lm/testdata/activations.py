"""activations.py: what transformers' activations without parameters compute.

    make peers && PYTHONPATH=<the peers' folder> python3 lm/testdata/activations.py > lm/testdata/activations.json
"""
import json
import torch
from transformers.activations import ACT2FN

x = torch.tensor([-12, -7.5, -6, -3, -2.5, -1, -0.5, -0.01, 0, 0.01, 0.3, 0.75, 1, 2.5, 3, 5.5, 6, 7.5, 12])
values = {name: [float("%.8g" % y) for y in ACT2FN[name](x).tolist()] for name in ACT2FN if name not in ("prelu", "xielu")}
print(json.dumps({"x": [round(v, 4) for v in x.tolist()], "values": values}).replace("], ", "],\n"))
