"""Writes cp.json: what TensorLy finds for small kernels, the best of a few starts.

The kernels are three separable terms of falling weight and some noise, so that there is one clear
optimum at every rank; on pure noise every start ends in another one.

    python cp.py > cp.json
"""

import json

import numpy as np
import tensorly
from tensorly.decomposition import parafac

SHAPES = [(6, 5, 3, 3), (4, 7, 1, 3), (8, 8, 2, 2), (5, 3, 5, 5)]
STARTS = 6


def error(tensor, rank):
    """The least relative error of a CP decomposition that ALS finds from several starts."""
    found = []
    for seed in range(STARTS):
        start = "svd" if seed == 0 else "random"
        model = parafac(tensor, rank, n_iter_max=1000, tol=1e-12, init=start, random_state=seed)
        rest = tensor - tensorly.cp_to_tensor(model)
        found.append(float(np.linalg.norm(rest) / np.linalg.norm(tensor)))
    return min(found)


def main():
    generator = np.random.default_rng(20180)
    cases = []
    for shape in SHAPES:
        kernel = 0.05 * generator.standard_normal(shape)
        for weight in (3, 2, 1):
            factors = [generator.standard_normal(n) for n in shape]
            a, b, c, d = (factor / np.linalg.norm(factor) for factor in factors)
            kernel += weight * np.einsum("i,j,k,l->ijkl", a, b, c, d)
        kernel = kernel.round(4)
        t, s, h, w = shape
        two, three = kernel.reshape(t, s * h * w), kernel.reshape(t, s, h * w)
        for rank in (1, 2, 3):
            tail = np.linalg.svd(two, compute_uv=False)[rank:]
            cases.append({
                "shape": shape, "kernel": kernel.ravel().tolist(), "rank": rank,
                "two_way": float(np.linalg.norm(tail) / np.linalg.norm(two)),
                "three_way": error(three, rank), "four_way": error(kernel, rank),
            })
    print(json.dumps(cases))


if __name__ == "__main__":
    main()
