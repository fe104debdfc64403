"""Prints what every network holds in PyTorch: crates/rankfold-zoo/tests/data/parameters.csv."""

import torch

from test_zoo import REFERENCES

print("network,tensors,parameters,parameters_with_buffers")
for name, reference in REFERENCES.items():
    with torch.device("meta"):
        module = reference()
    state = {n: t for n, t in module.state_dict().items() if not n.endswith("num_batches_tracked")}
    learnable = sum(p.numel() for p in module.parameters())
    print(name, len(state), learnable, sum(t.numel() for t in state.values()), sep=",")
