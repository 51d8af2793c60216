"""One start of a run: from its last checkpoint, or from nothing, to its end, to a stop or to an error."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import pytorch_lightning as pl
from rich.console import Console

from mbtrain.assembly import Assembly
from mbtrain.finished_run import fill_from_checkpoint, save_final
from mbtrain.log.writer import LogWriter
from mbtrain.optim.sgd_noise import sgd_noise_of
from mbtrain.outcome import outcome
from mbtrain.plan.batch_schedule import names_read
from mbtrain.plan.duration import Duration
from mbtrain.plan.failed import Failed
from mbtrain.planning import plan_of
from mbtrain.probes.contract import needs
from mbtrain.run_folder import RunFolder
from mbtrain.training.checkpoint import BEST, CheckpointFiles, loadable
from mbtrain.training.clock import Clock
from mbtrain.training.compiled import CompiledEngine
from mbtrain.training.engine import Engine
from mbtrain.training.finite import Gate, NotFinite, unbounded_buffers
from mbtrain.training.forward import Forward
from mbtrain.training.halving import Halving
from mbtrain.training.loop import LeanFitLoop
from mbtrain.training.module import MiniBatchModule, Parts
from mbtrain.training.progress import ProgressBar
from mbtrain.training.recorder import Recorder
from mbtrain.training.replay import Inspector
from mbtrain.training.seam import Seam
from mbtrain.training.signals import Signals
from mbtrain.training.step import Step
from mbtrain.training.trainer import fit, make_trainer
from mbtrain.training.update import Update
from mbtrain.training.validation import Validation


class Attempt:
    """Everything that a start opens; `result` trains, tests and closes it all.

    `inspected` is the iteration up to which each is looked at before its update, 0 for none (a replay).
    """

    def __init__(
        self, config: Mapping[str, Any], assembly: Assembly, folder: RunFolder, console: Console, *, inspected: int
    ) -> None:
        self._config, self._assembly, self._folder, self._inspected = config, assembly, folder, inspected
        self._console = console
        self._start = loadable(folder.checkpoints, tell=lambda line: _tell(console, line))
        saved = {} if self._start is None else self._start[1]["mbtrain"]
        if self._start is not None:
            fill_from_checkpoint(assembly.model, *self._start)
            before = plan_of(folder.saved_config(), num_samples=assembly.plan.num_samples, tokens=assembly.plan.tokens)
            for plan in (before, assembly.plan):
                plan.load(saved["plan"])
            folder.refuse_changed_past(before, assembly.plan, config, saved["iterations"])
            _tell(console, f"going on after iteration {saved['iterations']:,}")
        folder.begin(config, chosen=assembly.chosen())
        self._clock, self._signals = Clock(assembly.plan), Signals()
        self._bar = ProgressBar(assembly.plan, console)
        log = saved["recorder"]["log"] if saved else {}
        observers = (self._bar,) if config["trainer"]["progress"] else ()
        self._writer = LogWriter(folder.path, start=log, observers=observers)
        self._recorder = Recorder(
            self._writer,
            assembly.scores,
            weights=list(assembly.model.parameters()),
            noise_scale=sgd_noise_of(assembly.optimizer),
            probes={one.name: one.probe for one in assembly.probes if needs(one.probe, "rows")},
        )
        keep, unbounded = config["checkpoint"]["keep"], unbounded_buffers(assembly.model)
        self._files = CheckpointFiles(folder.checkpoints, keep=keep, unbounded=unbounded)
        self._seam = Seam(
            folder.checkpoints, self._clock, every=self._saves(), files=self._files, signals=self._signals
        )
        self._loader = assembly.loader(self._clock)

    def result(self) -> dict[str, Any]:
        """Train and test; what result.json says. Raises NotFinite where a bad number was found, Failed in a replay."""
        assembly, best = self._assembly, self._folder.checkpoints / BEST
        with self._closing():
            trainer = make_trainer(
                self._config["trainer"],
                assembly.device,
                self._clock,
                self._loader,
                self._seam,
                self._files,
                self._signals,
                assembly.callbacks,
                run_dir=self._folder.path,
            )
            module = self._trained(trainer)
            self._files.finish()
            # Not as it was before the training: an engine may have given up since.
            assembly = self._assembly
            result = outcome(self._config, assembly, module, trainer, best, self._signals, keep=self._keep)
        self._files.raise_error()
        return result

    @contextmanager
    def _closing(self) -> Iterator[None]:
        """Close in this order: a checkpoint that is still being written waits for the log's writer."""
        with ExitStack() as stack:
            for close in (
                self._writer.close,
                self._files.close,
                self._loader.close,
                self._signals.restore,
                self._bar.stop,
            ):
                stack.callback(close)
            yield

    def _trained(self, trainer: pl.Trainer) -> MiniBatchModule:
        assembly, parts = self._assembly, self._parts(trainer)
        module = MiniBatchModule(parts, self._inspector(parts) if self._inspected else None)
        batches = None if assembly.data.validation is None else assembly.batches(assembly.data.validation)
        self._bar.start()
        with self._kept_after_error(is_exact=isinstance(trainer.fit_loop, LeanFitLoop)):
            fit(trainer, module, self._loader, batches, None if self._start is None else self._start[0])
        self._bar.stop()
        return module

    @contextmanager
    def _kept_after_error(self, *, is_exact: bool) -> Iterator[None]:
        """After an error the rows so far are written, and a checkpoint where the state is that of the last seam."""
        try:
            yield
        except (NotFinite, OSError):
            raise
        except Exception as error:
            self._recorder.end()
            if is_exact and not isinstance(error, Failed):
                self._seam.save_after_error()
            raise

    def _parts(self, trainer: pl.Trainer) -> Parts:
        config, assembly = self._config, self._assembly
        skips, every = config["nonfinite"] == "skip", config["validate"]["every"]
        return Parts(
            model=assembly.model,
            loss=assembly.loss,
            groups=assembly.groups,
            update=Update(
                [one for one in assembly.model.parameters() if one.requires_grad],
                assembly.optimizer,
                clip_norm=config["optimizer"]["clip_norm"],
                ema=assembly.ema,
                scaler=getattr(trainer.precision_plugin, "scaler", None),
            ),
            lr_of=assembly.lr_of,
            scaled=assembly.scaled,
            clock=self._clock,
            recorder=self._recorder,
            scores=assembly.scores,
            validation=self._validation(),
            num_outputs=assembly.num_outputs,
            seed=config["seed"],
            probes=assembly.probes,
            validates=None if every is None else assembly.plan.cadence(Duration.parse(every)),
            engine=self._engine() if assembly.engine.sizes else None,
            gate=Gate(assembly.model, assembly.optimizer, assembly.ema) if skips else None,
            halving=self._halving() if config["batch"]["micro_size"] == "auto" else None,
            reads=frozenset(names_read(assembly.plan.schedule)),
            origin=lambda: {"config": dict(config), "chosen": self._assembly.chosen()},
        )

    def _engine(self) -> CompiledEngine:
        assembly = self._assembly
        step = Step(
            forward=Forward(assembly.model, assembly.loss, assembly.groups),
            parameters=[one for one in assembly.model.parameters() if one.requires_grad],
            optimizer=assembly.optimizer,
            clip_norm=self._config["optimizer"]["clip_norm"],
        )
        # Not where iterations are compiled already: the rest of the run would differ from an uninterrupted one.
        may_give_up = self._config["trainer"]["engine"] == "auto" and self._start is None
        gives_up = self._run_eagerly if may_give_up else None
        return CompiledEngine(
            step,
            assembly.engine.sizes,
            self._loader.first,
            self._tell,
            gives_up,
            answering=self._signals.answering,
            goes_on=self._start is not None,
            is_compiled=assembly.engine.name == "compiled",
            looks_each_time=not all(_is_ours(self._config[one]) for one in ("lr_schedule", "batch_schedule")),
        )

    def _run_eagerly(self) -> None:
        """The code does not trace or is no faster so, and it was not asked to."""
        self._assembly = replace(self._assembly, engine=Engine("eager", (), ""))
        self._folder.choose(self._assembly.chosen())

    def _halving(self) -> Halving:
        assembly = self._assembly
        assert assembly.micro_sizes is not None
        return Halving(
            assembly.model,
            assembly.micro_sizes,
            group_size=assembly.bn_group_size,
            splits=assembly.splits,
            record=lambda: self._folder.choose(self._assembly.chosen()),
            tell=self._tell,
        )

    def _tell(self, line: str) -> None:
        _tell(self._console, line)

    def _validation(self) -> Validation:
        options = self._config["validate"]
        return Validation(
            self._assembly.scores,
            lambda: self._assembly.evaluated(self._clock.last.samples_after, is_final=False),
            best=options["best"],
            stop_at=options["stop_at"],
            patience=options["patience"],
            save_weights=lambda model: self._files.save_weights(model, BEST),
        )

    def _inspector(self, parts: Parts) -> Inspector:
        return Inspector(
            until=self._inspected,
            goes_on=not self._assembly.engine.sizes,
            run_dir=self._folder.path,
            forward=Forward(parts.model, parts.loss, parts.groups),
            optimizer=parts.update.optimizer,
            seed=parts.seed,
            ids_of=self._loader.sample_ids,
        )

    def _saves(self) -> Any:
        every = self._config["checkpoint"]["every"]
        if self._inspected and self._assembly.engine.sizes:
            # A replay runs eagerly, and not to the same bits: a run that is compiled must not go on from there.
            return None
        return None if every is None else self._assembly.plan.cadence(Duration.parse(every))

    def _keep(self) -> None:
        """Keep the final weights, which are in the model now."""
        assembly, data = self._assembly, self._assembly.data
        save_final(assembly.model, data.normalize, data.input_shape, assembly.num_outputs, self._folder.checkpoints)


def _tell(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def _is_ours(node: Mapping[str, Any]) -> bool:
    return str(node["_target_"]).startswith("mbtrain.")
