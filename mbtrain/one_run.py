"""One run on one page: build, fit, test, close, and its Result."""

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console

from mbtrain.assembly import Assembly, assemble
from mbtrain.finished_run import save_final
from mbtrain.log.files import replace
from mbtrain.log.lock import locked
from mbtrain.log.status import write_status
from mbtrain.log.writer import LogWriter
from mbtrain.outcome import outcome
from mbtrain.plan.duration import Duration
from mbtrain.plan.failed import Failed
from mbtrain.plan.run import RunPlan
from mbtrain.run_folder import RunFolder
from mbtrain.training.checkpoint import BEST, CheckpointFiles, loadable
from mbtrain.training.clock import Clock
from mbtrain.training.finite import Gate, NotFinite, unbounded_buffers
from mbtrain.training.loop import LeanFitLoop
from mbtrain.training.module import MiniBatchModule, Parts
from mbtrain.training.place import threads
from mbtrain.training.progress import ProgressBar
from mbtrain.training.recorder import Recorder
from mbtrain.training.replay import Inspector
from mbtrain.training.seam import Seam
from mbtrain.training.signals import Interrupted, Signals
from mbtrain.training.trainer import fit, make_trainer
from mbtrain.training.update import Update
from mbtrain.training.validation import Validation

NUM_REPLAYS = 3


@dataclass(frozen=True)
class Result:
    """What a run leaves: its folder, and result.json as a mapping; `is_new` is false where it was done before."""

    run_dir: Path
    values: Mapping[str, Any]
    is_new: bool = True

    def __getitem__(self, key: str) -> Any:
        return self.values[key]


def train(config: Mapping[str, Any], console: Console) -> Result:
    """Train what `config` says, from the start or from the last checkpoint in its folder.

    Raises Refused before anything is trained or written, Interrupted after a signal, with a checkpoint written, Failed
    where a number is not finite.
    """
    folder = RunFolder(Path(config["run_dir"]))
    folder.admit(config)
    finished = folder.finished()
    if finished is not None and folder.saved_config()["duration"] == config["duration"]:
        return Result(folder.path, finished, is_new=False)
    assembly = assemble(config, chosen=folder.chosen())
    for line in (*assembly.data.notes, assembly.plan_line):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    with folder.opened(), locked(folder.path), threads(assembly.threads), _status_of(folder.path):
        result = _Run(config, assembly, folder, console).result()
        replace(folder.path / "result.json", orjson.dumps(result, option=orjson.OPT_INDENT_2))
    return Result(folder.path, result)


@contextmanager
def _status_of(run_dir: Path) -> Iterator[None]:
    """status.json says at the end of the block how it ended."""
    try:
        yield
    except BaseException as error:
        # Where the disk is full this cannot be said either; a reader sees that the process is gone.
        with suppress(OSError):
            write_status(run_dir, "interrupted" if isinstance(error, Interrupted) else "failed", _first_line(error))
        raise
    write_status(run_dir, "done")


class _Run:
    """One run in its folder, over as many starts as it takes."""

    def __init__(self, config: Mapping[str, Any], assembly: Assembly, folder: RunFolder, console: Console) -> None:
        self._config, self._folder, self._console = config, folder, console
        self._assembly: Assembly | None = assembly

    def result(self) -> dict[str, Any]:
        """Train; where a number was not finite, again from the last checkpoint, each iteration looked at."""
        inspected = 0
        for _ in range(1 + NUM_REPLAYS):
            assembly = self._assembly or assemble(self._config, chosen=self._folder.chosen())
            # Nothing but the run itself holds the model: a replay has room for another.
            self._assembly = None
            try:
                return self._train(assembly, inspected)
            except NotFinite as error:
                inspected = error.iteration
                self._console.print(f"{error}: going back to the last checkpoint to find where", highlight=False)
            del assembly
            gc.collect()
        raise Failed(f"numbers were not finite by iteration {inspected:,}, and {NUM_REPLAYS} replays did not repeat it")

    def _train(self, assembly: Assembly, inspected: int) -> dict[str, Any]:
        config, folder = self._config, self._folder
        start = loadable(folder.checkpoints, tell=self._tell)
        saved = {} if start is None else start[1]["mbtrain"]
        if saved:
            folder.refuse_changed_past(_plan_before(folder, assembly.plan), assembly.plan, config, saved["iterations"])
            self._tell(f"going on after iteration {saved['iterations']:,}")
        folder.begin(config, threads=assembly.threads)
        clock, signals, bar = Clock(assembly.plan), Signals(), ProgressBar(assembly.plan, self._console)
        log = saved["recorder"]["log"] if saved else {}
        writer = LogWriter(folder.path, start=log, observers=(bar,) if config["trainer"]["progress"] else ())
        keep, unbounded = config["checkpoint"]["keep"], unbounded_buffers(assembly.model)
        files = CheckpointFiles(folder.checkpoints, keep=keep, unbounded=unbounded)
        loader = assembly.loader(clock)
        seam = _seam(config, assembly, folder, clock, files, signals)
        recorder = Recorder(writer, assembly.scores, weights=list(assembly.model.parameters()))
        options, callbacks, device = config["trainer"], assembly.callbacks, assembly.device
        try:
            trainer = make_trainer(options, device, clock, loader, seam, files, signals, callbacks, run_dir=folder.path)
            parts = _parts(config, assembly, folder, clock, recorder, files, trainer)
            inspector = _inspector(inspected, parts, folder, loader) if inspected else None
            bar.start()
            batches = None if assembly.data.validation is None else assembly.batches(assembly.data.validation)
            with _kept_after_error(seam, recorder, is_exact=isinstance(trainer.fit_loop, LeanFitLoop)):
                module = MiniBatchModule(parts, inspector)
                fit(trainer, module, loader, batches, None if start is None else start[0])
            bar.stop()
            files.finish()
            result = outcome(config, assembly, module, trainer, folder.checkpoints / BEST, signals)
            _keep(assembly, folder)
        finally:
            bar.stop()
            signals.restore()
            loader.close()
            files.close()
            writer.close()
        files.raise_error()
        return result

    def _tell(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def _kept_after_error(seam: Seam, recorder: Recorder, *, is_exact: bool) -> Iterator[None]:
    """After an error the rows so far are written, and a checkpoint where the state is still that of the last seam."""
    try:
        yield
    except (NotFinite, OSError):
        raise
    except Exception as error:
        recorder.end()
        if is_exact and not isinstance(error, Failed):
            seam.save_after_error()
        raise


def _parts(
    config: Mapping[str, Any],
    assembly: Assembly,
    folder: RunFolder,
    clock: Clock,
    recorder: Recorder,
    files: CheckpointFiles,
    trainer: Any,
) -> Parts:
    trained = [one for one in assembly.model.parameters() if one.requires_grad]
    clip_norm, validate, scaler = config["optimizer"]["clip_norm"], config["validate"], trainer.precision_plugin
    validation = Validation(
        assembly.scores,
        assembly.ema,
        best=validate["best"],
        stop_at=validate["stop_at"],
        patience=validate["patience"],
        save_weights=lambda model: files.save_weights(model, BEST),
    )
    skips = config["nonfinite"] == "skip"
    return Parts(
        model=assembly.model,
        loss=assembly.loss,
        groups=assembly.groups,
        update=Update(
            trained,
            assembly.optimizer,
            clip_norm=clip_norm,
            ema=assembly.ema,
            scaler=getattr(scaler, "scaler", None),
        ),
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
        gate=Gate(assembly.model, assembly.optimizer, assembly.ema) if skips else None,
        origin={"config": dict(config), "chosen": folder.chosen()},
    )


def _inspector(until: int, parts: Parts, folder: RunFolder, loader: Any) -> Inspector:
    return Inspector(
        until=until,
        run_dir=folder.path,
        model=parts.model,
        loss=parts.loss,
        groups=parts.groups,
        optimizer=parts.update.optimizer,
        seed=parts.seed,
        ids_of=loader.sample_ids,
    )


def _seam(
    config: Mapping[str, Any],
    assembly: Assembly,
    folder: RunFolder,
    clock: Clock,
    files: CheckpointFiles,
    signals: Signals,
) -> Seam:
    every = config["checkpoint"]["every"]
    cadence = None if every is None else assembly.plan.cadence(Duration.parse(every))
    return Seam(folder.checkpoints, clock, every=cadence, files=files, signals=signals)


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


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
