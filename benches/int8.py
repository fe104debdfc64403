#!/usr/bin/env python3
"""Times a model before and after quantisation on ONNX Runtime, by turns, on as many threads each.

    rankfold export resnet20.th --arch resnet20 --to onnx --output f32.onnx
    rankfold quantize resnet20.th --arch resnet20 --data cifar10:DATA -o int8
    rankfold export int8 --to onnx --output int8.onnx
    python3 benches/int8.py f32.onnx int8.onnx
"""

import argparse
import time

import numpy as np
import onnxruntime

ROUNDS, SECONDS = 21, 0.25


def session(path: str, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def once(model: onnxruntime.InferenceSession, inputs: np.ndarray) -> float:
    """Seconds a run takes, over a quarter of a second of runs."""
    name, runs, start = model.get_inputs()[0].name, 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < SECONDS:
        model.run(None, {name: inputs})
        runs += 1
    return passed / runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="ONNX")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    print(f"onnxruntime {onnxruntime.__version__}, {arguments.threads} threads, medians of {ROUNDS} rounds")
    models = [session(path, arguments.threads) for path in arguments.models]
    shape = models[0].get_inputs()[0].shape[1:]
    for batch in arguments.batch:
        inputs = np.random.default_rng(0).random((batch, *shape), dtype=np.float32)
        rounds = [[once(model, inputs) for model in models] for _ in range(ROUNDS)]
        first = np.median([times[0] for times in rounds])
        for i, path in enumerate(arguments.models):
            median = np.median([times[i] for times in rounds])
            print(f"batch {batch:3}  {path}  {1e3 * median:.3f} ms  {first / median:.2f} times as fast")


if __name__ == "__main__":
    main()
