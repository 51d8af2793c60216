"""What a run comes to: result.json, from the final weights, the test data read once."""

import hashlib
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from mbtrain.assembly import Assembly
from mbtrain.data.sources import Source
from mbtrain.log.provenance import git_state, versions
from mbtrain.training.module import MiniBatchModule
from mbtrain.training.sealed import read_sealed
from mbtrain.training.signals import Interrupted, Signals
from mbtrain.training.validation import Evaluation

PACKAGES = ("mbtrain", "torch", "pytorch-lightning", "hydra-core", "omegaconf", "numpy", "wandb")


def outcome(
    config: Mapping[str, Any],
    assembly: Assembly,
    module: MiniBatchModule,
    trainer: pl.Trainer,
    best: Path,
    signals: Signals,
    *,
    keep: Callable[[], None],
) -> dict[str, Any]:
    """Evaluate and describe the run that has just ended; Interrupted by a signal: the last checkpoint has it all.

    `keep` is called where the final weights, averaged and recalibrated as asked for, are in the model.
    """
    clock, seconds = module.parts.clock, module.parts.recorder.seconds()
    samples = clock.last.samples_seen
    # Lightning has taken the module and all that is in it to the CPU.
    for one in (assembly.model, assembly.loss):
        if isinstance(one, nn.Module):
            one.to(assembly.device)
    result: dict[str, Any] = {"status": "done", "iterations": clock.done, "epochs": clock.last.epoch + 1}
    result |= {"samples_seen": samples, "duration": config["duration"]}
    # Not where only the final weights are recalibrated: they were validated without it.
    is_same = config["batch_norm"]["recalibrate"] != "end"
    validation = module.parts.validation.results_at(clock.done) if is_same else {}
    with final(assembly, trainer, clock.last.samples_after):
        result |= _evaluate("test", assembly.data.test, assembly, trainer, signals)
        result |= validation or _evaluate("val", assembly.data.validation, assembly, trainer, signals)
        result["weights_sha256"] = weights_sha256(assembly.model)
        keep()
    if module.parts.validation.best:
        result |= _best(module, assembly, trainer, best, signals)
    if module.parts.scaled.history:
        result["scaling"] = module.parts.scaled.history
    return result | {
        "seconds": seconds,
        "samples_per_s": samples / seconds if seconds > 0 else None,
        "chosen": assembly.chosen() | {"device": str(assembly.device)},
        "versions": versions(PACKAGES) | {"python": platform.python_version()},
        "git": git_state(),
    }


@contextmanager
def final(assembly: Assembly, trainer: pl.Trainer, samples_seen: int) -> Iterator[None]:
    """The run's final weights and statistics in the model for the length of a block: averaged, recalibrated."""
    with ExitStack() as stack:
        with trainer.precision_plugin.forward_context():
            stack.enter_context(assembly.evaluated(samples_seen, is_final=True))
        yield


def weights_sha256(model: nn.Module) -> str:
    """A hash of all weights and buffers: names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        value = value.detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {list(value.shape)};".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return digest.hexdigest()


def _evaluate(
    name: str, source: Source | None, assembly: Assembly, trainer: pl.Trainer, signals: Signals
) -> dict[str, float]:
    if source is None:
        return {}
    evaluation = Evaluation(assembly.scores)
    evaluation.begin()
    assembly.model.eval()
    with torch.no_grad(), trainer.precision_plugin.forward_context():
        for batch in _heeding(assembly.batches(source), signals):
            evaluation.add(assembly.model, assembly.loss, batch)
    return {f"{name}/{key}": value for key, value in evaluation.results(assembly.num_outputs).items()}


def _heeding(batches: Iterable[Any], signals: Signals) -> Iterator[Any]:
    for batch in batches:
        if signals.received is not None:
            raise Interrupted(signals.received)
        yield batch


def _best(
    module: MiniBatchModule, assembly: Assembly, trainer: pl.Trainer, path: Path, signals: Signals
) -> dict[str, Any]:
    """Results of the best weights; the model holds its final ones again afterwards."""
    final = {name: value.clone() for name, value in assembly.model.state_dict().items()}
    assembly.model.load_state_dict(read_sealed(path)["weights"])
    tested = _evaluate("test", assembly.data.test, assembly, trainer, signals)
    assembly.model.load_state_dict(final)
    return {f"best/{key}": value for key, value in (module.parts.validation.best | tested).items()}
