"""The LightningModule: one training_step is one iteration is one update from one mini-batch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from mbtrain.core.gradient import MeanGradient, mean_gradient
from mbtrain.core.random import seed_iteration
from mbtrain.data.loader import Micro, MiniBatch
from mbtrain.losses.contract import Loss
from mbtrain.norm.groups import BnGroups
from mbtrain.plan.duration import Cadence
from mbtrain.plan.run import Iteration
from mbtrain.probes.contract import Columns, Scheduled
from mbtrain.training.clock import Clock
from mbtrain.training.compiled import CompiledEngine
from mbtrain.training.finite import Gate
from mbtrain.training.forward import Forward
from mbtrain.training.halving import Halving
from mbtrain.training.metrics import Scores
from mbtrain.training.probing import IDLE, Probing, memory, remember
from mbtrain.training.recorder import Recorder
from mbtrain.training.rehearsal import Rehearsal
from mbtrain.training.replay import Inspector
from mbtrain.training.scaled import ScaledValues
from mbtrain.training.update import Update
from mbtrain.training.validation import Validation


@dataclass(frozen=True)
class Parts:
    """What an iteration is made of, put together by one_run."""

    model: nn.Module
    loss: Loss
    groups: BnGroups
    update: Update
    lr_of: Callable[[float], float]
    scaled: ScaledValues
    clock: Clock
    recorder: Recorder
    scores: Scores
    validation: Validation
    num_outputs: int
    seed: int
    probes: Sequence[Scheduled] = field(default=())
    validates: Cadence | None = None
    gate: Gate | None = None
    engine: CompiledEngine | None = None
    halving: Halving | None = None
    # The columns that the batch schedule reads, none where it reads none.
    reads: frozenset[str] = frozenset()
    # Kept in every checkpoint: the config, and what was chosen by the program so far.
    origin: Callable[[], Mapping[str, Any]] = dict


def is_ours(callback: pl.Callback) -> bool:
    """Whether a callback is one of this package's, which look at no gradient."""
    return type(callback).__module__.startswith("mbtrain.")


class Passes(NamedTuple):
    """What the passes over a mini-batch leave: its gradient, (output, target) of each micro-batch, its probes."""

    result: MeanGradient
    pairs: list[tuple[Tensor, Tensor]]
    probing: Probing


class MiniBatchModule(pl.LightningModule):
    """Runs the iterations of a plan under Lightning's Trainer, by manual optimisation."""

    def __init__(self, parts: Parts, inspector: Inspector | None = None) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model, self.loss = parts.model, parts.loss
        self.parts, self.inspector = parts, inspector
        self._trained = [parameter for parameter in parts.model.parameters() if parameter.requires_grad]
        self._has_buffers = any(True for _ in parts.model.buffers())
        self._forward = Forward(parts.model, parts.loss, parts.groups)
        self._before_step: list[Callable[..., Any]] = []
        self._is_watched = True
        self._started_at = 0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimizer that Lightning saves and restores."""
        return self.parts.update.optimizer

    def forward(self, x: Any) -> Any:
        """The model's outputs."""
        return self.model(x)

    # One iteration ---------------------------------------------------------------------------------------------------

    def training_step(self, mini_batch: MiniBatch, batch_idx: int) -> None:
        """Mean gradient of the whole mini-batch, clip, update, row."""
        parts, iteration = self.parts, mini_batch.iteration
        parts.groups.begin(iteration.samples_before)
        parts.recorder.begin()
        parts.clock.is_touched = self._has_buffers
        parts.scaled.follow(iteration)
        parts.update.release()
        if parts.engine is not None and self.inspector is None and parts.engine.takes(mini_batch):
            self._compiled_step(parts.engine, mini_batch)
            return
        if parts.gate is not None:
            parts.gate.keep()
        if parts.halving is None:
            result, pairs, probing = self._passes(mini_batch)
        else:
            mini_batch, (result, pairs, probing) = parts.halving.passes(mini_batch, self._passes)
        if self.inspector is not None:
            self.inspector.see_gradient(mini_batch, result)
        is_probed = probing is not IDLE
        norm = parts.update.set_gradient(result.gradient, is_shown=self._is_watched or is_probed)
        extra = {} if norm is None else {"train/grad_norm": norm}
        if is_probed:
            extra |= probing.before_update(result, self._trained)
        for hook in self._before_step:
            hook(self.trainer, self, parts.update.optimizer)
        lr = self._lr(iteration)
        parts.clock.is_touched = True
        updated: bool | Tensor = parts.update.step(lr=lr, num_samples=iteration.size)
        if parts.gate is not None:
            updated = parts.gate.settle(result.losses, result.gradient) & updated
        if self.inspector is not None:
            self.inspector.see_update(mini_batch)
        if is_probed:
            extra |= probing.after_update(parts.recorder.spent_s)
        if parts.reads and parts.reads <= extra.keys():
            extra |= self._show_schedule(iteration, {name: extra[name] for name in parts.reads})
        head = (iteration, mini_batch.num_micro_batches, updated, lr)
        parts.recorder.add(head, result.losses, result.weight, pairs, extra)
        self._count(iteration)

    def _show_schedule(self, iteration: Iteration, columns: Columns) -> Columns:
        """Show the batch schedule what it reads: the one time that the next mini-batch waits for numbers."""
        plan = self.parts.clock.plan
        plan.see({name: float(one) for name, one in columns.items()}, done=iteration.index + 1)
        told = getattr(plan.schedule, "told", dict)
        return {name: torch.tensor(one, dtype=torch.float64) for name, one in told().items()}

    def _passes(self, mini_batch: MiniBatch) -> Passes:
        """Forward and backward over the micro-batches; where memory runs out, it is called anew with smaller ones."""
        parts, forward, probing = self.parts, self._forward, self._probing(mini_batch)
        pairs: list[tuple[Tensor, Tensor]] = []

        def evaluate(micro: Micro) -> tuple[Tensor, Tensor | None]:
            output, values, weights = forward(micro)
            pairs.append((output.detach(), micro.target))
            probing.see_losses(values, weights)
            return values, weights

        seed_iteration(parts.seed, mini_batch.iteration.index, mini_batch.device)
        with probing.watching():
            result = mean_gradient(
                probing.fetched(mini_batch.micro_batches()),
                evaluate,
                self._trained,
                num_micro_batches=mini_batch.num_micro_batches,
                loss_scale=parts.update.loss_scale,
                observers=probing.observers,
            )
        return Passes(result, pairs, probing)

    def _compiled_step(self, engine: CompiledEngine, mini_batch: MiniBatch) -> None:
        """What training_step does, where one compiled function does most of it."""
        parts, iteration = self.parts, mini_batch.iteration
        lr = self._lr(iteration)
        seed_iteration(parts.seed, iteration.index, mini_batch.device)
        parts.clock.is_touched = True
        done = engine(mini_batch, lr)
        parts.update.note(lr=lr, num_samples=iteration.size)
        extra = {} if done.norm is None else {"train/grad_norm": done.norm}
        head = (iteration, mini_batch.num_micro_batches, True, lr)
        parts.recorder.add(head, done.losses, done.weight, done.pairs, extra)
        self._count(iteration)

    def _lr(self, iteration: Iteration) -> float:
        """Of an update: the schedule's value at the middle of its mini-batch."""
        return self.parts.scaled.lr * self.parts.lr_of(iteration.samples_before + iteration.size / 2)

    def _probing(self, mini_batch: MiniBatch) -> Probing:
        """The probes that are due now."""
        parts = self.parts
        due = [one.probe for one in parts.probes if one.is_due(mini_batch.iteration)]
        if not due:
            return IDLE

        def rehearsal() -> Rehearsal:
            return Rehearsal(mini_batch, self._forward, self._trained, seed=parts.seed)

        size = mini_batch.num_micro_batches
        return Probing(due, rehearsal, mini_batch.iteration, size, waited_s=mini_batch.waited_s)

    def _count(self, iteration: Iteration) -> None:
        """Move our clock, and Lightning's global_step with it."""
        clock = self.parts.clock
        clock.done, clock.is_touched = iteration.index + 1, False
        self._steps.ready = self._steps.completed = clock.done

    # Start, validation, epoch's end ----------------------------------------------------------------------------------

    def on_train_start(self) -> None:
        """Find the user's callbacks that want a say before each update; start the clock of the log."""
        callbacks = self.trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
        base = pl.Callback.on_before_optimizer_step
        self._before_step = [
            one.on_before_optimizer_step for one in callbacks if type(one).on_before_optimizer_step is not base
        ]
        self._is_watched = any(not is_ours(one) for one in callbacks)
        # What Lightning's global_step is read from; looked up here, because the way there takes 2 us.
        self._steps = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress.total
        self._started_at = self.parts.clock.done
        self.trainer.should_stop = self.parts.validation.should_stop
        if self.parts.engine is not None and self.inspector is None:
            self.parts.scaled.follow(self.parts.clock.next)
            with self.trainer.precision_plugin.train_step_context():
                self.parts.engine.warm_up()
        self.parts.recorder.start()

    def is_validation_due(self) -> bool:
        """Whether the iteration just done is one after which to validate."""
        clock, cadence = self.parts.clock, self.parts.validates
        if cadence is None or clock.done == self._started_at:
            return False
        last = clock.last
        return cadence.is_due(last.index, last.samples_before, last.samples_after)

    def on_validation_start(self) -> None:
        """Close the row before, so that no iteration's time holds a validation; put in what is validated."""
        self.parts.recorder.end()
        with self.trainer.precision_plugin.forward_context():
            self.parts.validation.begin()

    def validation_step(self, batch: tuple[Any, Tensor], batch_idx: int) -> None:
        """Add up one batch, weighted by what it holds."""
        self.parts.validation.add(self.model, self.loss, batch)

    def on_validation_epoch_end(self) -> None:
        """The whole validation set's loss and scores; a row at once where the epoch goes on."""
        results = self.parts.validation.end(self.parts.num_outputs)
        self.log_dict(results, batch_size=1)
        validation, clock = self.parts.validation, self.parts.clock
        if validation.judge(results, clock.done):
            validation.save_best(self.model)
        validation.close()
        clock.plan.see(results, done=clock.done)
        if validation.should_stop:
            self.trainer.should_stop = True
        if not clock.is_between_epochs and not clock.is_over and not validation.should_stop:
            self._write_epoch_row()

    def on_validation_model_train(self) -> None:
        """Back to training; a captured or compiled iteration sees nothing of what a validation has changed."""
        super().on_validation_model_train()
        if self.parts.engine is not None:
            self.parts.engine.look_again()

    def on_train_epoch_end(self) -> None:
        """Write the epoch's row; an order of the user's comes next, which is asked for once an epoch."""
        self._write_epoch_row()
        if self.parts.engine is not None:
            self.parts.engine.look_again()

    def _write_epoch_row(self) -> None:
        last, clock = self.parts.clock.last, self.parts.clock
        head = {"iteration": clock.done, "epoch": last.epoch, "samples_seen": last.samples_seen}
        results = self.parts.validation.results_at(clock.done)
        self.parts.recorder.write_epoch(head, results, ends_epoch=clock.is_between_epochs)

    # Checkpoints -----------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what Lightning does not know of."""
        ema = self.parts.update.ema
        checkpoint["mbtrain"] = {
            "iterations": self.parts.clock.done,
            "recorder": self.parts.recorder.state(),
            "validation": self.parts.validation.state(),
            "plan": self.parts.clock.plan.state(),
            "ema": None if ema is None else ema.average,
            "scaling": self.parts.scaled.history,
            "probes": memory(self.parts.probes),
            **self.parts.origin(),
        }

    def on_load_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """Go on from there."""
        ours = checkpoint["mbtrain"]
        self.parts.clock.done = ours["iterations"]
        self.parts.recorder.load(ours["recorder"])
        self.parts.validation.load(ours["validation"])
        self.parts.scaled.history = list(ours["scaling"])
        if self.parts.update.ema is not None:
            self.parts.update.ema.load(ours["ema"])
        remember(self.parts.probes, ours["probes"])
