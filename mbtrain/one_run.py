"""One run on one page: build, fit, test, close, and its Result."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import torch
from rich.console import Console

from mbtrain.assembly import Assembly, assemble
from mbtrain.data.prepare import Data
from mbtrain.finished_run import save_final
from mbtrain.log.lock import locked
from mbtrain.log.status import first_line, write_status
from mbtrain.log.writer import LogWriter
from mbtrain.outcome import outcome
from mbtrain.plan.duration import Duration
from mbtrain.plan.run import RunPlan
from mbtrain.run_folder import RunFolder
from mbtrain.training.checkpoint import BEST, Seam, loadable, save_weights
from mbtrain.training.clock import Clock
from mbtrain.training.module import MiniBatchModule, Parts
from mbtrain.training.place import threads
from mbtrain.training.progress import ProgressBar
from mbtrain.training.recorder import Recorder
from mbtrain.training.signals import Interrupted, Signals
from mbtrain.training.trainer import fit, make_trainer
from mbtrain.training.update import Update
from mbtrain.training.validation import Validation


@dataclass(frozen=True)
class Result:
    """What a run leaves: its folder, and result.json as a mapping; `is_new` is false where it was done before."""

    run_dir: Path
    values: Mapping[str, Any]
    is_new: bool = True

    def __getitem__(self, key: str) -> Any:
        return self.values[key]


def train(config: Mapping[str, Any], console: Console, *, cores: int | None = None, data: Data | None = None) -> Result:
    """Train what `config` says, from the start or from the last checkpoint in its folder.

    It computes on `cores`, all by default; `data` is given where it has been read already.
    Raises Refused before anything is trained or written, Interrupted after a signal, with a checkpoint written.
    """
    folder = RunFolder(Path(config["run_dir"]))
    folder.admit(config)
    finished = folder.finished()
    if finished is not None and folder.saved_config()["duration"] == config["duration"]:
        return Result(folder.path, finished, is_new=False)
    assembly = assemble(config, chosen=folder.chosen(), cores=cores, data=data)
    for line in (*assembly.data.notes, assembly.plan_line):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    with folder.opened(), locked(folder.path), threads(assembly.threads):
        return Result(folder.path, _train(config, assembly, folder, console))


def _train(config: Mapping[str, Any], assembly: Assembly, folder: RunFolder, console: Console) -> dict[str, Any]:
    start = loadable(folder.checkpoints, tell=console.print)
    offsets: Mapping[str, int] = {}
    if start is not None:
        saved = torch.load(start, map_location="cpu", weights_only=True)["mbtrain"]
        offsets, done = saved["recorder"]["offsets"], saved["iterations"]
        folder.refuse_changed_past(_plan_before(folder, assembly.plan), assembly.plan, config, done)
        console.print(f"going on after iteration {done:,}", highlight=False)
    folder.begin(config, threads=assembly.threads)
    clock, signals, bar = Clock(assembly.plan), Signals(), ProgressBar(assembly.plan, console)
    writer = LogWriter(folder.path, offsets=offsets, observers=(bar,) if config["trainer"]["progress"] else ())
    loader = assembly.loader(clock)
    try:
        recorder = Recorder(writer, assembly.scores, device=assembly.device)
        seam = _seam(config, assembly, folder, clock, signals)
        trainer = make_trainer(config["trainer"], assembly.device, clock, loader, seam, signals, assembly.callbacks)
        module = _module(config, assembly, folder, clock, recorder, getattr(trainer.precision_plugin, "scaler", None))
        bar.start()
        batches = None if assembly.data.validation is None else assembly.batches(assembly.data.validation)
        fit(trainer, module, loader, batches, start)
        bar.stop()
        result = outcome(config, assembly, module, trainer, folder.checkpoints / BEST)
        _keep(assembly, folder)
    except BaseException as error:
        write_status(folder.path, "interrupted" if isinstance(error, Interrupted) else "failed", first_line(error))
        raise
    finally:
        bar.stop()
        signals.restore()
        loader.close()
        writer.close()
    (folder.path / "result.json").write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2))
    write_status(folder.path, "done")
    return result


def _module(
    config: Mapping[str, Any], assembly: Assembly, folder: RunFolder, clock: Clock, recorder: Recorder, scaler: Any
) -> MiniBatchModule:
    trained = [one for one in assembly.model.parameters() if one.requires_grad]
    clip_norm, validate = config["optimizer"]["clip_norm"], config["validate"]
    validation = Validation(
        assembly.scores,
        assembly.ema,
        best=validate["best"],
        stop_at=validate["stop_at"],
        patience=validate["patience"],
        save_weights=lambda model: save_weights(model, folder.checkpoints / BEST),
    )
    parts = Parts(
        model=assembly.model,
        loss=assembly.loss,
        groups=assembly.groups,
        update=Update(trained, assembly.optimizer, clip_norm=clip_norm, ema=assembly.ema, scaler=scaler),
        lr_of=assembly.lr_of,
        base_lr=config["optimizer"]["lr"],
        clock=clock,
        recorder=recorder,
        scores=assembly.scores,
        validation=validation,
        num_outputs=assembly.num_outputs,
        seed=config["seed"],
        probes=assembly.probes,
        validates=None if validate["every"] is None else assembly.plan.cadence(Duration.parse(validate["every"])),
    )
    return MiniBatchModule(parts)


def _seam(config: Mapping[str, Any], assembly: Assembly, folder: RunFolder, clock: Clock, signals: Signals) -> Seam:
    every = config["checkpoint"]["every"]
    cadence = None if every is None else assembly.plan.cadence(Duration.parse(every))
    return Seam(folder.checkpoints, clock, every=cadence, keep=config["checkpoint"]["keep"], signals=signals)


def _plan_before(folder: RunFolder, plan: RunPlan) -> RunPlan:
    old = folder.saved_config()
    return RunPlan(
        num_samples=plan.num_samples,
        batch_size=old["batch"]["size"],
        duration=Duration.parse(old["duration"]),
        drop_last=old["batch"]["drop_last"],
    )


def _keep(assembly: Assembly, folder: RunFolder) -> None:
    """Keep the final weights, the averaged ones where there are any."""
    data = assembly.data
    with assembly.averaged():
        save_final(assembly.model, data.normalize, data.input_shape, assembly.num_outputs, folder.checkpoints)
