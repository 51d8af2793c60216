"""mbtrain itself, from overrides to the log on disk."""

import tempfile
from pathlib import Path

import torch

import mbtrain
from mbtrain.training import recorder
from timing.cases import Case
from timing.span import DEVICE, Note, Peer, TimedReshuffle, settle

ENDLESS = "1000000ep"


# torch.optim's own step: mbtrain calls kernels directly for the classes that it knows, and these are none.
class WrappedSgd(torch.optim.SGD):
    """SGD by its wrapper."""


class WrappedAdamW(torch.optim.AdamW):
    """AdamW by its wrapper."""


WRAPPED = {"sgd": "timing.ours.WrappedSgd", "adamw": "timing.ours.WrappedAdamW"}


class OurLoop:
    """A peer: a run without end; every iteration's row is written."""

    def __init__(self, case: Case, folder: Path, *overrides: str, threads: str = "1") -> None:
        self._case, self._folder = case, folder
        self._overrides = [
            *case.overrides,
            "dataset=arrays",
            f"++dataset.path={case.keep_data(folder)}",
            "dataset.val_fraction=0",
            "validate=never",
            "tracker=none",
            "checkpoint.every=null",
            f"trainer.accelerator={'gpu' if DEVICE.type == 'cuda' else 'cpu'}",
            f"trainer.threads={threads}",
            "trainer.progress=false",
            "trust=[timing]",
            *overrides,
        ]

    def __call__(self, note: Note) -> None:
        """Train without end."""
        TimedReshuffle.note, TimedReshuffle.iterations_per_epoch = note, self._case.iterations_per_epoch
        settle()
        told = ["sampler._target_=timing.span.TimedReshuffle", f"duration={ENDLESS}"]
        mbtrain.run([*self._overrides, *told, f"run_dir={tempfile.mkdtemp(dir=self._folder)}"])

    def finite(self, name: str, num_iterations: int) -> list[str]:
        """The overrides of a run of so many iterations in the folder `name`, for a command line."""
        return [*self._overrides, f"duration={num_iterations}it", f"run_dir={self._folder / name}"]


def row_by_row(loop: OurLoop) -> Peer:
    """The same with every row handed to the writer by itself, as soon as its iteration is over."""

    def train(note: Note) -> None:
        recorder.BLOCK_ITERATIONS = 1
        loop(note)

    return train
