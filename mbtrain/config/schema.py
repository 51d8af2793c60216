"""Our keys: what each means and takes. Options of a `_target_` belong to the class that it names, not here."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from mbtrain.config import fields
from mbtrain.config.fields import FLAG, GOAL, LENGTH, NAME, SCORE, TEXT, TEXTS, choice, either, number, or_null, whole


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, populate_by_name=True)


class _Built(_Section):
    """A section that names a class: further keys are its options."""

    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True, populate_by_name=True)
    target: TEXT = Field(alias="_target_", description="the class that is built")


class Dataset(_Built):
    """`dataset`."""

    val_fraction: or_null(number(at_least=0, below=1)) = Field(
        description="share of the training set held out for validation; null is 0.1 where the data has no such set"
    )
    test_fraction: or_null(number(at_least=0, below=1)) = Field(
        description="share of the training set cut off as a test set, where the data has none"
    )
    split_seed: whole(0, 2**63 - 1) = Field(description="draws the splits; `seed` never does")
    augment: fields.EITHER_MAPPING = Field(description="flip, crop, cutout: names or {flip: true, crop: 4, cutout: 8}")
    workers: or_null(whole(0, 1024)) = Field(
        description="null: in memory where it fits; a number: read by that many DataLoader workers"
    )
    normalize: or_null(FLAG) = Field(
        description="zero mean and unit spread, by constants of the training part; null is the data set's own choice"
    )


class Batch(_Section):
    """`batch`."""

    size: either(whole(1), choice("all")) = Field(
        description="samples whose mean gradient makes one update, over all devices; all is full-batch gradient descent"
    )
    micro_size: or_null(whole(1)) = Field(
        description="at most this many samples in one forward and backward: a memory knob that never changes the result"
    )
    accumulate: or_null(whole(1)) = Field(description="the other spelling of micro_size: micro-batches per iteration")
    drop_last: FLAG = Field(description="leave the ragged tail of an epoch out")


class BatchSchedule(_Section):
    """`batch_schedule`."""

    kind: choice("constant") = Field(description="how the batch size moves")


class Scaling(_Section):
    """`scaling`."""

    kind: choice("none") = Field(description="what follows the batch size")


class BatchNorm(_Section):
    """`batch_norm`."""

    kind: choice("batch", "group_norm", "layer_norm", "frozen", "none") = Field(
        description="what stands in place of the model's batch-norm layers"
    )
    group_size: or_null(whole(1)) = Field(
        description="consecutive samples of the mini-batch that share statistics; null is the whole mini-batch"
    )
    momentum: or_null(number(above=0, below=1.0000001)) = Field(
        description="weight of a new group in the running statistics; null keeps each layer's own"
    )
    channels_per_group: whole(1) = Field(description="of group norm")


class Optimizer(_Built):
    """`optimizer`."""

    lr: number(at_least=0) = Field(description="learning rate, before lr_schedule; there is no upper bound")
    weight_decay: number(at_least=0) = Field(0.0, description="weight decay")
    momentum: number(at_least=0, below=1) = Field(0.0, description="of SGD")
    clip_norm: or_null(number(above=0)) = Field(description="clip the gradient to this global norm")
    decay_norms: FLAG = Field(description="false spares norms and biases from weight decay")


class Validate(_Section):
    """`validate`."""

    every: or_null(LENGTH) = Field(description="how often; null is never before the end")
    batch_size: whole(1) = Field(description="samples in one forward pass of validation and test; changes no result")
    best: or_null(SCORE) = Field(description="keep the weights that are best in this score, and test them too")
    stop_at: or_null(GOAL) = Field(description="stop the run when this holds")
    patience: or_null(whole(1)) = Field(description="stop after this many validations without a better `best`")


class Checkpoint(_Section):
    """`checkpoint`."""

    every: or_null(LENGTH) = Field(description="how often; null is at the end and on signals only")
    keep: whole(1) = Field(description="how many to keep")


class Trainer(_Section):
    """`trainer`."""

    accelerator: choice("auto", "cpu", "gpu") = Field(description="auto takes a GPU where there is one")
    devices: choice(1) = Field(description="one device; more are not there yet")
    precision: choice("32-true", "64-true", "bf16-mixed", "16-mixed") = Field(description="of the arithmetic")
    threads: or_null(whole(1, 4096)) = Field(description="of the CPU; null follows a fixed rule by model and shape")
    loop: choice("lean", "stock") = Field(description="our epoch loop, or Lightning's own (slower, for comparison)")
    deterministic: FLAG = Field(description="repeatable kernels on CUDA, where bit-exact resume needs them; slower")
    progress: FLAG = Field(description="show a progress bar")
    extra: fields.MAPPING = Field(description="further arguments of Lightning's Trainer; callbacks go here")


class Config(_Section):
    """The whole config."""

    name: NAME = Field(description="a name for folders and trackers")
    duration: LENGTH = Field(description="the run's length")
    seed: whole(0, 2**63 - 1) = Field(description="the one seed of training")
    run_dir: TEXT = Field(description="where the run writes")
    sweep_dir: TEXT = Field(description="where a sweep writes")
    data_root: TEXT = Field(description="where data sets lie or are downloaded to")
    resume: TEXT = Field(description="auto: go on with an unfinished run in run_dir; never; or the folder of a run")
    trust: TEXTS = Field(
        description="packages whose code `_target_` may name besides torch.nn, torch.optim and mbtrain"
    )
    ema: or_null(LENGTH) = Field(description="averaged weights with this half-life; used to validate, test and load")
    dataset: Dataset
    sampler: _Built
    batch: Batch
    batch_schedule: BatchSchedule
    scaling: Scaling
    batch_norm: BatchNorm
    model: "Model"
    loss: _Built
    optimizer: Optimizer
    lr_schedule: _Built
    validate_: Validate = Field(alias="validate")
    checkpoint: Checkpoint
    probe: dict[str, Any] = Field(description="probes by name: probe=NAME or probe=[A,B]; probe.NAME.every is a length")
    tracker: dict[str, Any] = Field(description="trackers by name: tracker=NAME or tracker=[A,B]")
    trainer: Trainer


class Model(_Built):
    """`model`."""

    weights: or_null(TEXT) = Field(description="start from the weights of this run folder or file")


Config.model_rebuild()
