"""mbtrain itself, from overrides to the log on disk; the span is that of whole epochs, start and end not counted."""

import shutil
from pathlib import Path

import torch

import mbtrain
from timing.cases import LR, MOMENTUM, NETWORKS, Case
from timing.span import DEVICE, Seconds, TimedReshuffle


class WrappedSgd(torch.optim.SGD):
    """torch.optim's own step: mbtrain calls kernels directly for the classes that it knows, and this is none."""


class OurLoop:
    """A peer: one run at a time, its first epoch not counted; every iteration's row is written."""

    def __init__(self, case: Case, folder: Path, *overrides: str, threads: int = 1) -> None:
        self._case, self._run_dir = case, folder / "run"
        # An epoch that is not timed, those that are, and the beginning of one that says when they are over.
        self._num_iterations = (case.epochs + 1) * case.iterations_per_epoch + 1
        micro = [f"batch.micro_size={case.micro_size}"] if case.accumulates else []
        self._overrides = [
            *NETWORKS[case.network].overrides,
            "dataset=arrays",
            f"++dataset.path={case.keep_data(folder)}",
            "dataset.val_fraction=0",
            "validate=never",
            f"batch.size={case.batch_size}",
            *micro,
            f"optimizer.lr={LR}",
            f"optimizer.momentum={MOMENTUM}",
            f"duration={self._num_iterations}it",
            f"run_dir={self._run_dir}",
            "tracker=none",
            "checkpoint.every=null",
            f"trainer.accelerator={'gpu' if DEVICE.type == 'cuda' else 'cpu'}",
            f"trainer.threads={threads}",
            "trainer.progress=false",
            "trust=[timing]",
            "sampler._target_=timing.span.TimedReshuffle",
            *overrides,
        ]

    def __call__(self) -> Seconds:
        """Seconds per iteration over whole epochs."""
        case = self._case
        mbtrain.run(self._overrides)
        num_rows = (self._run_dir / "iterations.jsonl").read_bytes().count(b"\n")
        assert num_rows == self._num_iterations, f"{num_rows} rows"
        shutil.rmtree(self._run_dir)
        instants = TimedReshuffle.instants
        return instants[-1].since(instants[-1 - case.epochs], iterations=case.iterations)
