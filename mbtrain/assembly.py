"""Puts together what a config names: data, plan, model, loss, update, probes; refuses what does not go together."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from mbtrain.compatibility import name_of, try_out
from mbtrain.config.build import build, find
from mbtrain.config.scaling import scaling_of
from mbtrain.config.schedules import lr_schedule_of
from mbtrain.core.random import seed_weights
from mbtrain.cutting import cutting_of, plan_line
from mbtrain.data.loader import Batches, Cut, Loader, Order
from mbtrain.data.prepare import Data, Options, prepare
from mbtrain.data.sources import DatasetSource, Source
from mbtrain.data.splits import as_splits
from mbtrain.first_weights import set_first_weights
from mbtrain.losses.contract import Loss, as_loss, takes_reduction
from mbtrain.norm.convert import convert
from mbtrain.norm.groups import BnGroups, has_batch_norm
from mbtrain.norm.recalibration import Recalibration
from mbtrain.normalisation import groups_of, recalibration_of, recompute
from mbtrain.observers import callbacks_of, probes_of
from mbtrain.optim.ema import Ema
from mbtrain.optim.groups import parameter_groups
from mbtrain.plan.duration import Duration
from mbtrain.plan.micro_sizes import MicroSizes
from mbtrain.plan.refused import Refused
from mbtrain.plan.run import RunPlan
from mbtrain.planning import order_and_plan
from mbtrain.probes.contract import Scheduled
from mbtrain.training.engine import Engine, engine_of
from mbtrain.training.metrics import ClassScores, NumberScores, Scores
from mbtrain.training.place import (
    are_one_after_the_other,
    device_of,
    dtype_of,
    lay_channels_last,
    num_cores,
    threads_for,
)
from mbtrain.training.scaled import ScaledValues


@dataclass(frozen=True)
class Assembly:
    """Everything that an iteration needs and that does not depend on where the run stands."""

    config: Mapping[str, Any]
    device: torch.device
    data: Data
    plan: RunPlan
    order: Order
    cut: Cut
    model: nn.Module
    groups: BnGroups
    loss: Loss
    optimizer: torch.optim.Optimizer
    ema: Ema | None
    scaled: ScaledValues
    scores: Scores
    lr_of: Callable[[float], float]
    probes: tuple[Scheduled, ...]
    num_outputs: int
    threads: int
    plan_line: str
    workers: int
    callbacks: tuple[pl.Callback, ...]
    engine: Engine
    # Whether some batch-norm layer gets one value a channel and sample.
    is_flat: bool
    recalibration: Recalibration
    # Where the micro size was searched for (batch.micro_size=auto|fastest).
    micro_sizes: MicroSizes | None = None

    @property
    def bn_group_size(self) -> int | None:
        """Samples that share batch-norm statistics, as written; None without batch norm, and for the mini-batch."""
        return self.config["batch_norm"]["group_size"] if has_batch_norm(self.model) else None

    @property
    def splits(self) -> bool:
        """Whether a mini-batch may be cut: not where batch norm is over all of it."""
        return self.bn_group_size is not None or not has_batch_norm(self.model)

    def chosen(self) -> dict[str, Any]:
        """What the program chose, and a resume uses again; result.json tells it too."""
        searched = {} if self.micro_sizes is None else self.micro_sizes.as_chosen()
        return {"threads": self.threads, "engine": self.engine.name} | searched

    @property
    def lines(self) -> tuple[str, ...]:
        """What is told before the training: of the plan, and what follows the batch size."""
        return (self.plan_line, *self.scaled.lines(self.plan.iteration(0).batch_size))

    @contextmanager
    def evaluated(self, samples_seen: int, *, is_final: bool) -> Iterator[None]:
        """What is validated or, `is_final`, tested and kept, in the model for the length of a block."""
        when = self.config["batch_norm"]["recalibrate"]
        is_recalibrated = when == "before_eval" or (when == "end" and is_final)
        with self.averaged(), self.recalibration.in_place(samples_seen) if is_recalibrated else nullcontext():
            yield

    def averaged(self) -> AbstractContextManager[None]:
        """The averaged weights in the model for the length of a block, where there are any."""
        return nullcontext() if self.ema is None else self.ema.in_place()

    def loader(self, clock: Any) -> Loader:
        """The mini-batches of the run."""
        return Loader(
            self.data.train,
            clock,
            self.order,
            self.cut,
            device=self.device,
            augment=self.data.augment,
            seed=self.config["seed"],
            workers=self.workers,
        )

    def batches(self, source: Source) -> Batches:
        """A whole set in batches, for validation and test."""
        size = self.config["validate"]["batch_size"]
        return Batches(source, size, device=self.device, workers=self.workers)


def assemble(
    config: Mapping[str, Any], *, chosen: Mapping[str, Any], cores: int | None = None, data: Data | None = None
) -> Assembly:
    """Build everything; raises Refused in one line before anything is trained.

    `chosen` is what a resume brings; `cores` are how many the run may use, all by default; `data` is given where it has
    been read already (by `read_data`).
    """
    device, _ = _place(config)
    data = read_data(config) if data is None else data
    order, plan = order_and_plan(config, data)
    groups = groups_of(config, plan)
    model, num_outputs = _model(config, data, groups)
    loss = _loss(config, num_outputs, device)
    scores = _scores(data, loss, config)
    trial = try_out(config, data, model, loss, num_outputs)
    cutting = cutting_of(config, plan, has_bn=has_batch_norm(model), is_flat=trial.values_per_channel == 1)
    cores = num_cores() if cores is None else cores
    asked = config["trainer"]["threads"]
    wanted_threads = asked if isinstance(asked, int) else chosen.get("threads")
    optimizer = _optimizer(config, model)
    scaled = _scaled(config, model, optimizer, plan)
    step = (model, optimizer, data.train, scaled.scaling)
    engine = engine_of(config, chosen.get("engine"), plan, *step)
    return Assembly(
        config=config,
        device=device,
        data=data,
        plan=plan,
        order=order,
        cut=cutting.cut,
        model=model,
        groups=groups,
        loss=loss,
        optimizer=optimizer,
        ema=_ema(config, plan, _trained(config, model)),
        scaled=scaled,
        scores=scores,
        lr_of=plan.lr_factor(lr_schedule_of(config)),
        probes=probes_of(config, plan, model, optimizer, data.train, cutting.group_size),
        num_outputs=num_outputs,
        threads=wanted_threads or threads_for(trial.flops * cutting.micro_size, cores=cores),
        plan_line=plan_line(config, plan, cutting) + engine.note,
        workers=_workers(config, data.train, cores=cores),
        callbacks=callbacks_of(config),
        engine=engine,
        is_flat=trial.values_per_channel == 1,
        recalibration=recalibration_of(config, model, groups, data.train, plan, cutting.cut),
    )


def _place(config: Mapping[str, Any]) -> tuple[torch.device, torch.dtype]:
    precision = config["trainer"]["precision"]
    return device_of(config["trainer"]["accelerator"], precision), dtype_of(precision)


def read_data(config: Mapping[str, Any]) -> Data:
    """The data that `config` names, held out, normalised, on the device."""
    device, dtype = _place(config)
    node = config["dataset"]
    ours = tuple(Options.__dataclass_fields__)
    offered = {"data_root": config["data_root"]}
    dataset = build(node, key="dataset", trust=config["trust"], offered=offered, leave=ours)
    options = Options(**{name: node[name] for name in ours})
    return prepare(as_splits(dataset), options, device=device, dtype=dtype)


def build_model(
    config: Mapping[str, Any], groups: BnGroups, *, input_shape: tuple[int, ...] | None, num_outputs: int | None
) -> nn.Module:
    """The model that the config names, its batch norm converted; first weights drawn from `seed`."""
    offered = {"input_shape": input_shape, "num_outputs": num_outputs}
    offered = {name: value for name, value in offered.items() if value is not None}
    seed_weights(config["seed"])
    model = build(config["model"], key="model", trust=config["trust"], offered=offered, leave=("weights",))
    if not isinstance(model, nn.Module):
        raise Refused(f"model._target_={config['model']['_target_']}: gives a {type(model).__name__}, not an nn.Module")
    norm = config["batch_norm"]
    return convert(
        model, norm["kind"], groups, momentum=norm["momentum"], channels_per_group=norm["channels_per_group"]
    )


def _model(config: Mapping[str, Any], data: Data, groups: BnGroups) -> tuple[nn.Module, int]:
    known = config["model"].get("num_outputs", data.num_outputs)
    if known is None:
        raise Refused(
            "model.num_outputs: the data set does not say how many classes or numbers there are: "
            "give it an attribute num_classes, or set +model.num_outputs=N"
        )
    if data.num_classes is not None and known < data.num_classes:
        raise Refused(f"model.num_outputs={known}: the data have {data.num_classes} classes: give at least as many")
    model = build_model(config, groups, input_shape=data.input_shape, num_outputs=known)
    device, dtype = _place(config)
    model.to(device=device, dtype=dtype)
    set_first_weights(config, model, data.train)
    recompute(config, model)
    if config["trainer"]["channels_last"]:
        lay_channels_last(model)
    return model, known


def _loss(config: Mapping[str, Any], num_outputs: int, device: torch.device) -> Any:
    node = config["loss"]
    target = find(node["_target_"], key="loss", trust=config["trust"])
    offered: dict[str, Any] = {"num_outputs": num_outputs}
    if takes_reduction(target):
        offered["reduction"] = "none"
    if isinstance(target, type):
        loss = as_loss(build(node, key="loss", trust=config["trust"], offered=offered))
        return loss.to(device) if isinstance(loss, nn.Module) else loss
    asked = inspect.signature(target).parameters
    options = {name: value for name, value in node.items() if name != "_target_"}
    for name in options:
        if name not in asked:
            raise Refused(f"loss.{name}={options[name]}: {name_of(node)} takes no {name}; it takes {', '.join(asked)}")
    return functools.partial(target, **{name: value for name, value in offered.items() if name in asked} | options)


def _scores(data: Data, loss: Any, config: Mapping[str, Any]) -> Scores:
    if data.num_classes is None and data.num_outputs is not None:
        return NumberScores()
    return ClassScores(ignore_index=config["loss"].get("ignore_index"))


def _trained(config: Mapping[str, Any], model: nn.Module) -> list[nn.Parameter]:
    parameters = [one for one in model.parameters() if one.requires_grad]
    if not parameters:
        raise Refused(f"model={name_of(config['model'])}: has no parameter to train")
    return parameters


def _optimizer(config: Mapping[str, Any], model: nn.Module) -> torch.optim.Optimizer:
    _trained(config, model)  # what has nothing to train is told by name, not by torch
    node = config["optimizer"]
    offered: dict[str, Any] = {"params": parameter_groups(model, decays_norms=node["decay_norms"])}
    if config["trainer"]["precision"] != "16-mixed" and all(are_one_after_the_other(one) for one in model.parameters()):
        # torch's fused kernels are the same rule in one pass; under float16 the scaler needs the plain ones.
        offered["fused"] = True
    leave = ("clip_norm", "decay_norms")
    try:
        optimizer = build(node, key="optimizer", trust=config["trust"], offered=offered, leave=leave)
    except (ValueError, TypeError) as error:
        raise error if isinstance(error, Refused) else Refused(f"optimizer={name_of(node)}: {error}") from error
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise Refused(f"optimizer._target_={node['_target_']}: gives a {type(optimizer).__name__}, not an Optimizer")
    return optimizer


def _ema(config: Mapping[str, Any], plan: RunPlan, parameters: list[nn.Parameter]) -> Ema | None:
    half_life = config["ema"]
    return None if half_life is None else Ema(parameters, half_life=float(plan.samples(Duration.parse(half_life))))


def _scaled(
    config: Mapping[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer, plan: RunPlan
) -> ScaledValues:
    """What follows the batch size; Refused where the rule is not defined for some size of the run."""
    lr, group_size = config["optimizer"]["lr"], config["batch_norm"]["group_size"]
    scaled = ScaledValues(scaling_of(config), optimizer, model, lr=lr, group_size=group_size)
    for size in {*plan.sizes, plan.largest_size}:
        scaled.lines(size)
    return scaled


def _workers(config: Mapping[str, Any], source: Source, *, cores: int) -> int:
    """DataLoader workers: none for memory; for a data set read on demand one a core but one, at most four."""
    if not isinstance(source, DatasetSource):
        return 0
    wanted = config["dataset"]["workers"]
    return min(4, cores - 1) if wanted is None else wanted
