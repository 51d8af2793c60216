"""What a config may hold, and how it is said what it may not."""

from copy import deepcopy
from functools import cache
from typing import Any

import pytest

from mbtrain.config.check import Faults, check
from mbtrain.config.schema import BUILT, KEYS
from mbtrain.config.signature import arguments_of
from mbtrain.plan.refused import Refused
from tests.composing import composed


@cache
def _default() -> dict[str, Any]:
    return composed([])


def default() -> dict[str, Any]:
    """The default config, to be changed at will."""
    return deepcopy(_default())


def faults_of(*overrides: str) -> list[str]:
    """The lines with which overrides are refused, by Hydra or by the check."""
    try:
        check(composed(overrides))
    except Refused as error:
        return str(error).splitlines()
    return []


# What Lightning, Hydra and YAML take without a word (STACK.md), each with the line that it gets here.
ACCEPTED_SILENTLY = [
    ("batch.size=abc", "batch.size=abc: must be a whole number of at least 1, or all"),
    ("batch.size=-5", "batch.size=-5: must be a whole number of at least 1, or all"),
    ("batch.size=0", "batch.size=0: must be a whole number of at least 1, or all"),
    ("batch.size=1.5", "batch.size=1.5: must be a whole number of at least 1, or all"),
    ("batch.size=True", "batch.size=true: must be a whole number of at least 1, or all"),
    ("batch.size=null", "batch.size=null: must be a whole number of at least 1, or all"),
    ("batch.size=[32]", "batch.size=[32]: must be a whole number of at least 1, or all"),
    ("batch.size={a:1}", "batch.size={a: 1}: must be a whole number of at least 1, or all"),
    ("batch.size='32'", "batch.size='32': must be a whole number of at least 1, or all"),
    ("batch.size=012", "batch.size='012': must be a whole number of at least 1, or all"),
    ("batch.size=1e2", "batch.size=100.0: must be a whole number of at least 1, or all"),
    ("batch.drop_last=yes", "batch.drop_last='yes': must be true or false"),
    ("batch.drop_last=1", "batch.drop_last=1: must be true or false"),
    ("batch.accumulate=-1", "batch.accumulate=-1: must be a whole number of at least 1, or null"),
    ("batch.accumulate=1.5", "batch.accumulate=1.5: must be a whole number of at least 1, or null"),
    (
        "batch.micro_size=0",
        "batch.micro_size=0: must be a whole number of at least 1, or one of auto, fastest, or null",
    ),
    ("+batch.sise=64", "batch.sise=64: no such key; did you mean batch.size?"),
    ("+data.batch_sise=64", "data={batch_sise: 64}: no such key; did you mean dataset?"),
    ("+learning_rate=1", "learning_rate=1: no such key"),
    ("+Seed=1", "Seed=1: no such key; did you mean seed?"),
    ("+trainer.max_epochs=3", "trainer.max_epochs=3: no such key"),
    ("seed=-1", "seed=-1: must be a whole number of at least 0 and at most 9,223,372,036,854,775,807"),
    ("seed=null", "seed=null: must be a whole number of at least 0 and at most 9,223,372,036,854,775,807"),
    ("seed=1.0", "seed=1.0: must be a whole number of at least 0 and at most 9,223,372,036,854,775,807"),
    ("optimizer.lr=nan", "optimizer.lr=.nan: must be a number of at least 0"),
    ("optimizer.lr=NaN", "optimizer.lr=.nan: must be a number of at least 0"),
    ("optimizer.lr=inf", "optimizer.lr=.inf: must be a number of at least 0"),
    ("optimizer.lr=.inf", "optimizer.lr='.inf': must be a number of at least 0"),
    ("optimizer.lr=-0.1", "optimizer.lr=-0.1: must be a number of at least 0"),
    ("optimizer.lr=null", "optimizer.lr=null: must be a number of at least 0"),
    ("optimizer.momentum=1", "optimizer.momentum=1: must be a number of at least 0 and below 1"),
    ("optimizer.clip_norm=0", "optimizer.clip_norm=0: must be a number above 0, or null"),
    ("duration=10", "duration=10: must be a length such as 5ep, 200it, 6400sp or 50%"),
    ("duration=null", "duration=null: must be a length such as 5ep, 200it, 6400sp or 50%"),
    ("duration=-1ep", "duration=-1ep: must be a length such as 5ep, 200it, 6400sp or 50%"),
    ("duration=1.5it", "duration=1.5it: must be a length such as 5ep, 200it, 6400sp or 50%"),
    ("duration=50%", "duration=50%: the run's length cannot be a part of itself, use ep, it or sp"),
    ("name=../x", "name=../x: must be a name of at most 120 letters, digits and .,=+-_, no dot first"),
    ("name=''", "name='': must be a name of at most 120 letters, digits and .,=+-_, no dot first"),
    ("run_dir=''", "run_dir='': must be a text"),
    ("dataset.val_fraction=1", "dataset.val_fraction=1: must be a number of at least 0 and below 1, or null"),
    ("dataset.workers=-1", "dataset.workers=-1: must be a whole number of at least 0 and at most 1,024, or null"),
    (
        "batch_norm.kind=sync",
        "batch_norm.kind=sync: must be one of batch, renorm, group_norm, layer_norm, frozen, none",
    ),
    ("batch_norm.momentum=0", "batch_norm.momentum=0: must be a number above 0 and at most 1, or null"),
    ("validate.every=3", "validate.every=3: must be a length such as 5ep, 200it, 6400sp or 50%, or null"),
    ("validate.best=loss", "validate.best=loss: must be a score such as val/loss, or null"),
    ("validate.stop_at=val/loss", "validate.stop_at=val/loss: must be a target such as val/loss<1.6, or null"),
    ("validate.patience=3", "validate.patience=3: needs validate.best=KEY to say what should get better"),
    ("trainer.devices=2", "trainer.devices=2: must be 1"),
    ("trainer.precision=16", "trainer.precision=16: must be one of 32-true, 64-true, bf16-mixed, 16-mixed"),
    ("trainer.accelerator=tpu", "trainer.accelerator=tpu: must be one of auto, cpu, gpu"),
    (
        "trainer.threads=0",
        "trainer.threads=0: must be a whole number of at least 1 and at most 4,096, or auto, or null",
    ),
    ("trainer.extra=3", "trainer.extra=3: must be a mapping"),
    (
        "+trainer.extra.accumulate_grad_batches=4",
        "trainer.extra.accumulate_grad_batches: is set by mbtrain, use batch.accumulate or batch.micro_size instead",
    ),
    (
        "+trainer.extra.gradient_clip_val=1",
        "trainer.extra.gradient_clip_val: is set by mbtrain, use optimizer.clip_norm instead",
    ),
    ("+trainer.extra.max_epochs=1", "trainer.extra.max_epochs: is set by mbtrain, use duration instead"),
    (
        "+trainer.extra.profilr=simple",
        "trainer.extra.profilr=simple: Lightning's Trainer has no such argument; did you mean trainer.extra.profiler?",
    ),
    ("+trainer.extra.callbacks=x", "trainer.extra.callbacks=x: must be a list of {_target_: my_data.MyCallback}"),
    (
        "+model.hiden=[3]",
        "model.hiden=[3]: mbtrain.models.mlp.Mlp has no such option; did you mean model.hidden?; "
        "it takes input_shape, num_outputs, hidden, dropout",
    ),
    ("+optimizer.every=1ep", "optimizer.every=1ep: torch.optim.SGD has no such option; it takes lr, momentum, "),
    ("+dataset.path=x", "dataset.path=x: mbtrain.data.digits.Digits has no such option; it takes none"),
    ("lr_schedule.warmup=5", "lr_schedule.warmup=5: not a length such as 5ep, 200it, 6400sp or 50%"),
    ("+probe.x.every=1it", "probe.x: names no _target_; probe=NAME chooses one, probe=[A,B] several"),
    ("batch=null", "batch=null: Config group override must be a string or a list. Got NoneType"),
    ("~batch.size", "batch.size: is missing, give it in the config or on the command line"),
    ("batch_schedule.at=5ep:128", "batch_schedule.at=5ep:128: no such key here; it goes with batch_schedule=stepwise"),
    ("study.scale=demo", "study.scale=demo: no such key here; it goes with study=accumulation|"),
    ("model.dropout=x", "model.dropout=x: must be a number"),
    ("model.hidden=64", "model.hidden=64: must be a list of whole numbers"),
    ("experiment=nope", "experiment=nope: no such choice; choose from cifar10_fast, cifar10_resnet, "),
    (
        "model=cmn",
        "model=cmn: no such choice; did you mean cnn?; choose from cnn, gpt, mlp, resnet, whitened_cnn",
    ),
    ("probe=[gradient_nrm]", "probe=gradient_nrm: no such choice; did you mean gradient_norm?; choose from"),
]


@pytest.mark.parametrize(("override", "line"), ACCEPTED_SILENTLY, ids=[one for one, _ in ACCEPTED_SILENTLY])
def test_what_others_accept_silently_is_refused_in_one_line(override: str, line: str) -> None:
    (said,) = faults_of(override)
    assert said.startswith(line)


PAIRS = [
    (
        ("batch.accumulate=4", "batch.micro_size=3"),
        "batch.accumulate=4 means batch.micro_size=8, but batch.micro_size=3 is given too: leave one of them out",
    ),
    (
        ("batch.size=all", "batch.accumulate=4", "batch.micro_size=8"),
        "batch.accumulate=4 and batch.micro_size=8: with batch.size=all give one of them",
    ),
    (
        ("batch.accumulate=4", "batch.micro_size=auto"),
        "batch.accumulate=4 and batch.micro_size=auto: the one says what the other is to find: leave one of them out",
    ),
    (
        ("batch_norm.group_size=64", "batch.micro_size=16"),
        "batch_norm.group_size=64 is larger than batch.micro_size=16: set batch_norm.group_size=16",
    ),
    (
        ("batch_norm.group_size=64", "batch.micro_size=16", "batch.size=all"),
        "batch_norm.group_size=64 is larger than batch.micro_size=16",
    ),
    (
        ("batch_norm.group_size=64", "batch.accumulate=2"),
        "batch_norm.group_size=64 is larger than batch.micro_size=16",
    ),
    (("trainer.precision=16-mixed", "trainer.accelerator=cpu"), "trainer.precision=16-mixed: needs a GPU, on a CPU"),
    (("lr_schedule=step", "lr_schedule.at=[1ep,x]"), "lr_schedule.at=x: not a length such as"),
    (("lr_schedule=cosine", "lr_schedule.final=a"), "lr_schedule.final=a: must be a number of at least 0"),
    (("probe=gradient_norm", "probe.gradient_norm.every=3"), "probe.gradient_norm.every=3: not a length such as"),
    (("tracker=csv", "+tracker.csv.flush=1"), "tracker.csv.flush=1: mbtrain.trackers.csv.Csv has no such option"),
    (("+model.every=1ep",), "model.every=1ep: mbtrain.models.mlp.Mlp has no such option"),
]


@pytest.mark.parametrize(("overrides", "line"), PAIRS)
def test_what_does_not_go_together_is_refused_in_one_line(overrides: tuple[str, ...], line: str) -> None:
    (said,) = faults_of(*overrides)
    assert said.startswith(line)


@pytest.mark.parametrize(
    "overrides",
    [
        ("batch.size=all",),
        ("batch.size=1",),
        ("batch.size=1_000",),
        ("batch.accumulate=4", "batch.micro_size=8"),
        ("batch.accumulate=7",),
        ("batch.micro_size=1000",),
        ("batch.micro_size=auto",),
        ("batch.micro_size=fastest", "batch.size=all", "batch_norm.group_size=64"),
        ("batch_norm.group_size=64", "batch.micro_size=32"),
        ("batch_norm=group_norm", "batch_norm.group_size=64", "batch.micro_size=16"),
        ("batch_norm=ghost", "batch.size=128", "batch.micro_size=40"),
        ("seed=0",),
        ("seed=9223372036854775807",),
        ("optimizer.lr=0",),
        ("optimizer.lr=1e9",),
        ("batch_norm.momentum=1",),
        ("~optimizer.momentum", "~optimizer.nesterov", "optimizer._target_=torch.optim.Adagrad"),
        ("validate.stop_at='val/loss<1.6'",),
        ("validate.stop_at='val/accuracy >= .9'",),
        ("validate.patience=3", "validate.best=val/loss"),
        ("+trainer.extra.enable_model_summary=true",),
        ("+trainer.extra.callbacks=[{_target_: pytorch_lightning.callbacks.LambdaCallback}]",),
        ("+optimizer.foreach=true",),
        ("ema=1ep",),
        ("name='ein-Name_1.2,a=b'",),
        ("resume=never",),
        ("dataset.augment=[flip,crop]",),
    ],
    ids=str,
)
def test_what_is_right_passes(overrides: tuple[str, ...]) -> None:
    assert faults_of(*overrides) == []


def test_all_faults_are_told_at_once() -> None:
    said = faults_of("batch.size=abc", "seed=-1", "+batch.siz=3", "loss._target_=os.system", "trust=[a/b]")
    assert [line.split("=")[0] for line in said] == ["seed", "trust", "batch.size", "batch.siz", "loss._target_"]


def test_a_long_value_is_cut() -> None:
    (said,) = faults_of(f"batch.size={'x' * 500}")
    assert len(said) < 140


def test_a_value_of_several_lines_is_told_in_one() -> None:
    config = default()
    config["batch"]["size"] = "a\nb\n"
    with pytest.raises(Faults) as caught:
        check(config)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("section", sorted({key.split(".")[0] for key in KEYS if "." in key}))
def test_a_section_that_is_no_mapping_is_refused(section: str) -> None:
    with pytest.raises(Faults, match=f"{section}=3: must be a mapping of"):
        check(default() | {section: 3})


@pytest.mark.parametrize("key", KEYS)
def test_every_key_of_ours_must_be_there_unless_a_class_may_lack_it(key: str) -> None:
    config = default()
    *sections, name = key.split(".")
    node = config[sections[0]] if sections else config
    node.pop(name, None)
    if KEYS[key].is_optional:
        check(config)
        return
    with pytest.raises(Faults, match=f"{key}: is missing"):
        check(config)


@pytest.mark.parametrize("key", [key for key in KEYS if "." in key and key.split(".")[0] not in BUILT])
def test_a_key_of_ours_with_one_letter_more_is_not_taken(key: str) -> None:
    config = default()
    section, _, name = key.partition(".")
    config[section][f"{name}x"] = 1
    with pytest.raises(Faults) as caught:
        check(config)
    assert str(caught.value) == f"{key}x=1: no such key; did you mean {key}?"


def test_the_check_does_not_change_the_config() -> None:
    config = default()
    check(config)
    assert config == _default()


@pytest.mark.parametrize(
    ("target", "takes"),
    [
        ("mbtrain.plan.order.Sequential", ["num_samples"]),
        ("mbtrain.data.digits.Digits", []),
        ("mbtrain.data.arrays.NpzFile", ["path", "num_classes"]),
        ("mbtrain.data.synthetic.Teacher", ["num_samples", "dimension", "num_classes", "noise", "seed"]),
        ("torch.nn.Linear", None),
        ("mbtrain.models.nothing.Nothing", None),
        ("mbtrain.plan.batch.nothing", None),
    ],
)
def test_what_a_class_of_ours_takes_is_read_from_its_source(target: str, takes: list[str] | None) -> None:
    assert arguments_of(target) == takes
