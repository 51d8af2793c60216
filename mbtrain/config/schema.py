"""Our keys: what each takes and means. Options of a `_target_` belong to the class that it names, not here."""

from typing import NamedTuple

from mbtrain.config.fields import (
    BETAS,
    FLAG,
    GOAL,
    LENGTH,
    MAPPING,
    NAME,
    NAMES,
    NULL,
    PACKAGES,
    SCORE,
    TEXT,
    Kind,
    choice,
    number,
    whole,
)


class Key(NamedTuple):
    """One key."""

    kind: Kind
    meaning: str
    is_optional: bool = False


# Sections that name a class: their further keys are its options.
BUILT = ("dataset", "sampler", "model", "loss", "optimizer", "lr_schedule", "batch_schedule", "scaling")
_CLASS = Key(TEXT, "the class that is built; the section's other keys are its options")
_SEED = whole(0, 2**63 - 1)

KEYS: dict[str, Key] = {
    "name": Key(NAME, "a name for folders and trackers"),
    "duration": Key(LENGTH, "the run's length"),
    "seed": Key(_SEED, "the one seed of training"),
    "run_dir": Key(TEXT, "where the run writes"),
    "sweep_dir": Key(TEXT, "where a sweep writes: a folder a job"),
    "study_dir": Key(TEXT | NULL, "where a study writes: a folder a stage; null is studies/<name>-<scale>"),
    "data_root": Key(TEXT, "where data sets lie or are downloaded to"),
    "resume": Key(TEXT, "auto: go on with an unfinished run in run_dir; never; or the folder of a run to go on with"),
    "trust": Key(PACKAGES, "packages of yours that `_target_` may name; on the command line or in a primary config"),
    "ema": Key(LENGTH | NULL, "averaged weights with this half-life, used to validate, test and load; null is off"),
    "nonfinite": Key(
        choice("stop", "skip"),
        "what NaN or an infinity in loss, gradient or update does: stop the run before it, saying where; or skip it",
    ),
    "dataset._target_": _CLASS,
    "dataset.val_fraction": Key(
        number(at_least=0, below=1) | NULL,
        "share of the training set held out for validation; null is 0.1 where the data has no such set",
    ),
    "dataset.test_fraction": Key(
        number(at_least=0, below=1) | NULL, "share of the training set cut off as a test set, where the data has none"
    ),
    "dataset.split_seed": Key(_SEED, "draws the splits; `seed` never does"),
    "dataset.train_size": Key(
        whole(1) | NULL, "train on so many samples of the training set, drawn from split_seed; what is held out stays"
    ),
    "dataset.augment": Key(NAMES | NULL, "flip, crop, cutout: names, or {flip: true, crop: 4, cutout: 8}"),
    "dataset.workers": Key(
        whole(0, 1024) | NULL, "null: in memory where it fits; a number: read by that many DataLoader workers"
    ),
    "dataset.normalize": Key(
        FLAG | NULL, "zero mean and unit spread by constants of the training part; null is the data set's own choice"
    ),
    "sampler._target_": _CLASS,
    "sampler.replacement": Key(FLAG, "of weighted: independent draws; false is each sample once", is_optional=True),
    "sampler.shuffle_classes": Key(FLAG, "of class_sorted: a new order of classes every epoch", is_optional=True),
    "sampler.bucket_size": Key(
        whole(1) | choice("all"), "of length_bucketed: samples in a bucket; batch.size if not given", is_optional=True
    ),
    "sampler.pool_size": Key(whole(1), "of length_bucketed: buckets sorted together", is_optional=True),
    "batch.size": Key(
        whole(1) | choice("all"),
        "samples whose mean gradient makes one update, over all devices; all is full-batch gradient descent",
    ),
    "batch.micro_size": Key(
        whole(1) | choice("auto", "fastest") | NULL,
        "at most this many samples in one forward and backward pass: a memory knob that never changes the result; "
        "auto: the largest that runs, halved where memory runs out; fastest: the one that took least time",
    ),
    "batch.accumulate": Key(whole(1) | NULL, "the other spelling of micro_size: micro-batches per iteration"),
    "batch.max_tokens": Key(
        whole(1) | NULL,
        "at most this many tokens in a mini-batch, padding not counted, and at most batch.size samples (all: no limit)",
    ),
    "batch.drop_last": Key(FLAG, "leave the ragged tail of an epoch out"),
    "batch_schedule._target_": _CLASS,
    "scaling._target_": _CLASS,
    "scaling.reference_size": Key(
        whole(1) | NULL, "the batch size that the configured learning rate, betas and so on are meant for"
    ),
    "scaling.batch_norm_momentum": Key(
        FLAG, "keep the half-life of batch norm's running statistics in samples, where BN groups grow with the batch"
    ),
    "scaling.weight_decay": Key(
        FLAG, "keep lr x weight_decay / batch size, so that weight decay forgets over the same number of samples"
    ),
    "batch_norm.kind": Key(
        choice("batch", "renorm", "group_norm", "layer_norm", "frozen", "none"),
        "what stands in place of the model's batch-norm layers",
    ),
    "batch_norm.group_size": Key(
        whole(1) | NULL, "consecutive samples of the mini-batch that share statistics; null is the whole mini-batch"
    ),
    "batch_norm.momentum": Key(
        number(above=0, at_most=1) | NULL, "weight of a new group in the running statistics; null is each layer's own"
    ),
    "batch_norm.half_life": Key(
        LENGTH | NULL,
        "running statistics count half after so much: a group of n samples weighs 1 - 2^(-n / half_life); "
        "null is by momentum",
    ),
    "batch_norm.recalibrate": Key(
        choice("never", "end", "before_eval"),
        "precise statistics, measured on training samples at the weights in use: for the final weights and their "
        "test (end), for every validation too (before_eval)",
    ),
    "batch_norm.recalibrate_samples": Key(
        whole(2) | choice("all"), "so many samples of the training set, drawn from seed, are recalibrated on"
    ),
    "batch_norm.example_weight": Key(
        number(at_least=0, at_most=1),
        "in evaluation, the weight of a sample's own statistics beside the running ones (arXiv 1906.03548)",
    ),
    "batch_norm.r_max": Key(number(at_least=1), "of renorm: the correction of the spread is at most this factor"),
    "batch_norm.d_max": Key(number(at_least=0), "of renorm: the correction of the mean is at most so many spreads"),
    "batch_norm.renorm_start": Key(LENGTH, "of renorm: plain batch norm until then"),
    "batch_norm.r_max_at": Key(LENGTH, "of renorm: from there on r_max holds; it rises from 1 in a straight line"),
    "batch_norm.d_max_at": Key(LENGTH, "of renorm: from there on d_max holds; it rises from 0 in a straight line"),
    "batch_norm.channels_per_group": Key(whole(1), "of group norm"),
    "model._target_": _CLASS,
    "model.weights": Key(TEXT | NULL, "start from the weights of this run folder or file"),
    "loss._target_": _CLASS,
    "optimizer._target_": _CLASS,
    "optimizer.lr": Key(number(at_least=0), "learning rate, before lr_schedule; there is no upper bound"),
    "optimizer.weight_decay": Key(number(at_least=0), "weight decay", is_optional=True),
    "optimizer.momentum": Key(number(at_least=0, below=1), "of SGD", is_optional=True),
    "optimizer.betas": Key(BETAS, "of Adam: how much of its two averages each iteration keeps", is_optional=True),
    "optimizer.eps": Key(number(at_least=0), "of Adam: added to the root of the second average", is_optional=True),
    "optimizer.clip_norm": Key(number(above=0) | NULL, "clip the gradient to this global norm"),
    "optimizer.decay_norms": Key(FLAG, "false spares norms and biases from weight decay"),
    "lr_schedule._target_": _CLASS,
    "validate.every": Key(LENGTH | NULL, "how often; null is at the end only"),
    "validate.batch_size": Key(whole(1), "samples in one forward pass of validation and test; changes no result"),
    "validate.best": Key(SCORE | NULL, "keep the weights that are best in this score, and test them too"),
    "validate.stop_at": Key(GOAL | NULL, "stop the run when this holds"),
    "validate.patience": Key(whole(1) | NULL, "stop after this many validations without a better `validate.best`"),
    "checkpoint.every": Key(LENGTH | NULL, "how often; null is at the end and on signals only"),
    "checkpoint.keep": Key(whole(1), "how many to keep"),
    "sweep.jobs": Key(whole(1), "jobs of a sweep at once; they share the cores"),
    "sweep.retry": Key(choice("failed") | NULL, "failed: jobs of a sweep that failed are run again; null leaves them"),
    "probe": Key(
        MAPPING,
        "what is measured besides: probe=NAME or probe=[A,B]; probe.NAME.every is a length, probe.NAME.at a list",
    ),
    "tracker": Key(MAPPING, "where the log is sent besides: tracker=NAME or tracker=[A,B]"),
    "trainer.accelerator": Key(choice("auto", "cpu", "gpu"), "auto takes a GPU where there is one"),
    "trainer.devices": Key(choice(1), "one device; more are not there yet"),
    "trainer.precision": Key(choice("32-true", "64-true", "bf16-mixed", "16-mixed"), "of the arithmetic"),
    "trainer.threads": Key(
        whole(1, 4096) | choice("auto") | NULL,
        "of the CPU; null follows a fixed rule by model and shape, auto is timed once for each (within a second)",
    ),
    "trainer.loop": Key(choice("lean", "stock"), "our epoch loop, or Lightning's own (slower, for comparison)"),
    "trainer.engine": Key(
        choice("eager", "compiled", "captured", "auto"),
        "captured: a CUDA graph replays the iteration, on a GPU; compiled: it is one compiled function, after 10 to "
        "60 s of compiling, and a graph of that on a GPU; auto: on a GPU captured, else compiled, where it pays",
    ),
    "trainer.deterministic": Key(FLAG, "repeatable kernels on CUDA, where bit-exact resume needs them; slower"),
    "trainer.activation_checkpointing": Key(
        FLAG, "forget what is inside the model's blocks and compute it again: less memory, the same weights, more time"
    ),
    "trainer.channels_last": Key(
        FLAG, "keep images with their channels innermost in memory: faster convolutions on many devices"
    ),
    "trainer.progress": Key(FLAG, "show a progress bar"),
    "trainer.extra": Key(MAPPING, "further arguments of Lightning's Trainer; your own callbacks go in extra.callbacks"),
}
SECTIONS = tuple(dict.fromkeys(key.split(".")[0] for key in KEYS if "." in key))
