"""Writes evbmf.json: EVBMF ranks and noise variances of seeded matrices, in double precision.

    python evbmf.py

The free energy of Nakajima et al. (2013) is minimised over a dense grid and then by scipy's bounded
Brent search from the best grid cell. The matrices themselves are in evbmf.json, as exact values.
"""

import json
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar

CASES = [  # rows, cols, planted rank, noise
    (20, 30, 3, 0.1),
    (30, 20, 5, 0.5),
    (24, 24, 0, 1.0),
    (12, 40, 4, 0.02),
    (25, 35, 6, 1.0),
    (1, 17, 1, 0.3),
    (16, 22, 2, 1e-8),
]


def estimate(matrix):
    short, long = sorted(matrix.shape)
    alpha = short / long
    values = np.linalg.svd(matrix, compute_uv=False) ** 2
    tau_edge = 2.5129 * np.sqrt(alpha)
    edge = (1 + tau_edge) * (1 + alpha / tau_edge)

    def energy(log_variance):
        x = values / (long * np.exp(log_variance))
        noise, signal = x[x <= edge], x[x > edge]
        shifted = signal - (1 + alpha)
        tau = (shifted + np.sqrt(shifted**2 - 4 * alpha)) / 2
        return (
            np.sum(noise - np.log(noise))
            + np.sum(signal - tau + np.log((tau + 1) / signal))
            + alpha * np.sum(np.log(tau / alpha + 1))
        )

    most = int(np.ceil(short / (1 + alpha))) - 1
    upper = values.sum() / (short * long)
    lower = max(values[most] / (long * edge), values[most:].mean() / long)
    grid = np.linspace(np.log(lower), np.log(upper), 20001)
    best = int(np.argmin([energy(x) for x in grid]))
    bounds = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    found = minimize_scalar(energy, bounds=bounds, method="bounded", options={"xatol": 1e-12})
    variance = float(np.exp(found.x))
    return int(np.sum(values > long * variance * edge)), variance


def main():
    rng = np.random.default_rng(20250101)
    cases = []
    for rows, cols, rank, noise in CASES:
        signal = rng.standard_normal((rows, rank)) @ rng.standard_normal((rank, cols))
        matrix = np.round(signal + noise * rng.standard_normal((rows, cols)), 10 if noise < 1e-6 else 5)
        found, variance = estimate(matrix)
        cases.append(
            {"rows": rows, "cols": cols, "values": matrix.ravel().tolist(), "rank": found, "noise_variance": variance}
        )
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps({"cases": cases}) + "\n")
    print(path.name, [(case["rank"], case["noise_variance"]) for case in cases])


if __name__ == "__main__":
    main()
