"""Prints what every network holds in PyTorch: crates/rankfold-zoo/tests/data/parameters.csv."""

import torch

import _networks

print("network,tensors,parameters,parameters_with_buffers")
for name in _networks.IMAGENET + _networks.SMALL:
    with torch.device("meta"):
        model, _ = _networks.build(name)
    state = {n: t for n, t in model.state_dict().items() if not n.endswith("num_batches_tracked")}
    learnable = sum(p.numel() for p in model.parameters())
    print(name, len(state), learnable, sum(t.numel() for t in state.values()), sep=",")
