"""Memory and time of one mini-batch over one BN group: whole, recomputed (activation checkpointing), accumulated.

    python scripts/memory.py            a ResNet-20 and the small CNN, batch 256

Kept: bytes that the forward pass keeps for its backward pass. Peak: how far the process' resident memory rises over
what it was before the first pass; each way runs in a process of its own. Accumulation cuts the BN group too.
"""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

BATCH_SIZE, MICRO_SIZE, ROUNDS = 256, 32, 2
# Else glibc keeps freed tensors of up to 32 MB for later, and the peak would tell of it.
FREES = {"MALLOC_MMAP_THRESHOLD_": "65536"}
WAYS = ("whole", "recomputed", "accumulated")


def main() -> None:
    print("| model | way | BN group | kept, MB | peak, MB | CPU s |\n| --- | --- | --- | --- | --- | --- |")
    for name in ("resnet", "cnn"):
        for way in WAYS:
            command = [sys.executable, __file__, name, way]
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | FREES)
            one = json.loads(done.stdout)
            group = MICRO_SIZE if way == "accumulated" else BATCH_SIZE
            print(
                f"| {name} | {way} | {group} | {one['kept']:.0f} | {one['peak']:.0f} | {one['cpu_s']:.2f} |", flush=True
            )


def measured(name: str, way: str) -> dict[str, float]:
    """Of a few passes forward and backward."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import torch

    from mbtrain.core.kept import kept_bytes
    from mbtrain.core.recomputation import recompute_blocks
    from mbtrain.models.cnn import Cnn
    from mbtrain.models.resnet import ResNet

    torch.set_num_threads(1)
    model = {"resnet": ResNet, "cnn": Cnn}[name](input_shape=(3, 32, 32), num_outputs=10)
    if way == "recomputed":
        recompute_blocks(model)
    parts = torch.randn(BATCH_SIZE, 3, 32, 32).split(MICRO_SIZE if way == "accumulated" else BATCH_SIZE)
    weights = list(model.parameters())
    torch.autograd.grad(model(parts[0][:2]).sum(), weights)
    before, started = _peak(), time.process_time()
    for _ in range(ROUNDS):
        for part in parts:
            torch.autograd.grad(model(part).square().sum(), weights)
    cpu, peak = (time.process_time() - started) / ROUNDS, _peak() - before
    return {"kept": kept_bytes(lambda: model(parts[0])) / 1e6, "peak": peak, "cpu_s": cpu}


def _peak() -> float:
    """The process' largest resident memory so far, in MB (Linux counts it in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps(measured(*sys.argv[1:])))
    else:
        main()
