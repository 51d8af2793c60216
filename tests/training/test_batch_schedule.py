"""Every batch schedule trains, sees each sample once an epoch, and survives kills bit-exactly."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mbtrain
from mbtrain.plan.refused import Refused
from tests.conftest import QUIET, rows
from tests.test_kills import LENGTH, check_kills
from tests.test_kills import fork as fork  # a fixture
from tests.training.test_resume import check_same_run, train_with_kills

NUM_SAMPLES = 1294
PLATEAU = ["batch_schedule=plateau", "batch_schedule.patience=1", "batch_schedule.reads=val/accuracy"]
NOISE = ["batch_schedule=noise_scale", "batch_schedule.every=3it", "batch_schedule.parts=4", "batch.size=16"]
NOISE += ["batch_schedule.factor=0.5", "batch_schedule.hysteresis=1.1", "batch_schedule.most=200"]
CHOICES = [
    NOISE,
    [*NOISE, "dataset.workers=0", "batch.micro_size=60", "model.dropout=0.2"],
    ["batch_schedule=ramp"],
    ["batch_schedule=ramp", "batch_schedule.shape=straight", "batch.drop_last=true"],
    ["batch_schedule=linear", "batch.size=100", "batch.micro_size=30"],
    ["batch_schedule=stepwise", "batch_schedule.at='0ep:20 0.4ep:64 50%:200'", "dataset.workers=0"],
    ["batch_schedule=grow", "lr_schedule=step", "batch_schedule.most=200"],
    [*PLATEAU, "validate.every=0.3ep"],
    [*PLATEAU, "validate.every=0.3ep", "dataset.workers=0"],
]


@pytest.fixture(scope="module", params=CHOICES, ids=str)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Any]:
    """A run under each schedule: what it was told, and its result."""
    told = ["duration=2ep", "checkpoint.every=3it", "ema=1ep", "lr_schedule.warmup=10%", *request.param]
    return told, mbtrain.run([*QUIET, *told, f"run_dir={tmp_path_factory.mktemp('whole') / 'run'}"])


def test_each_sample_is_seen_once_an_epoch(whole: tuple[list[str], Any]) -> None:
    told, run = whole
    table = rows(run.run_dir)
    fewest = NUM_SAMPLES - 31 if "batch.drop_last=true" in told else NUM_SAMPLES
    for epoch in (0, 1):
        assert fewest <= sum(row["batch_size"] for row in table if row["epoch"] == epoch) <= NUM_SAMPLES
    assert run["samples_seen"] == table[-1]["samples_seen"] == sum(row["batch_size"] for row in table)
    assert len({row["batch_size"] for row in table[:-1]}) > 2


def test_cut_run_equals_the_whole_one(train: Callable[..., Any], tmp_path: Path, whole: tuple[list[str], Any]) -> None:
    told, run = whole
    # Among them the first iterations, and ones in the middle of an epoch whose size has just moved.
    at = [1, 4, 14, run["iterations"] // 2, run["iterations"] - 2]
    check_same_run(train_with_kills(train, tmp_path / "cut", at, told), run)


@pytest.mark.slow
def test_workers_that_have_gone_ahead_fetch_again_where_results_move_the_size(train: Callable[..., Any]) -> None:
    overrides = ["duration=2ep", "validate.every=0.3ep", *PLATEAU]
    check_same_run(train(*overrides, "dataset.workers=2"), train(*overrides, "dataset.workers=0"))


def test_six_kills_leave_a_run_whose_sizes_follow_its_results_as_it_would_have_been(
    fork: Callable[..., int], train: Callable[..., Any], tmp_path: Path
) -> None:
    check_kills(fork, NOISE, train(*LENGTH, *NOISE).run_dir, tmp_path / "cut", seed=3)


def test_longer_run_with_the_same_sizes_so_far_goes_on(train: Callable[..., Any], tmp_path: Path) -> None:
    choice = ["batch_schedule=ramp", "batch_schedule.over=1.5ep"]
    train(f"run_dir={tmp_path}/run", "duration=1ep", *choice)
    check_same_run(
        train(f"run_dir={tmp_path}/run", "duration=2ep", *choice),
        train("duration=2ep", *choice),
    )


def test_longer_run_whose_sizes_would_have_differed_is_refused(train: Callable[..., Any], tmp_path: Path) -> None:
    train(f"run_dir={tmp_path}/run", "duration=1ep", "batch_schedule=linear")
    with pytest.raises(Refused, match="duration=2ep: under this batch_schedule the first .* other mini-batches"):
        train(f"run_dir={tmp_path}/run", "duration=2ep", "batch_schedule=linear")


def test_noise_scale_of_sgd_is_the_same_curve_whether_the_rate_falls_or_the_batch_grows(
    train: Callable[..., Any],
) -> None:
    step = ["duration=4ep", "lr_schedule=step", "lr_schedule.factor=0.5", "optimizer.momentum=0.8", "batch.size=30"]
    curves = []
    for choice in ("constant", "grow"):
        table = rows(train(*step, f"batch_schedule={choice}").run_dir)
        full = [row for row in table if row["batch_size"] % 30 == 0]
        curves.append({row["samples_seen"] // NUM_SAMPLES: row["noise_scale_sgd"] for row in full})
        first = table[0]
        assert first["noise_scale_sgd"] == pytest.approx(first["lr"] / (30 * 0.2), rel=1e-12)
    assert curves[0] == pytest.approx(curves[1], rel=1e-12) and len(set(curves[0].values())) == 3


def test_noise_scale_of_other_optimizers_is_not_logged(train: Callable[..., Any]) -> None:
    assert "noise_scale_sgd" not in rows(train("optimizer=adamw", "duration=1it").run_dir)[0]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (["batch_schedule=ramp", "batch.size=all"], "batch.size=all: the whole set cannot grow"),
        (["batch_schedule=ramp", "batch.accumulate=4"], "batch.accumulate=4: the size moves under batch_schedule=ramp"),
        (["batch_schedule=ramp", "trainer.loop=stock"], "trainer.loop=stock: takes each epoch for as long"),
        (["batch_schedule=ramp", "duration=50it"], "duration=50it: with batch_schedule=ramp give it in ep or sp"),
        ([*PLATEAU, "duration=50it"], "duration=50it: with batch_schedule=plateau give it in ep or sp"),
        ([*PLATEAU, "batch.drop_last=true"], "batch.drop_last=true: which samples would be left out"),
        ([*PLATEAU, "validate.every=null"], "validate.every=null: batch_schedule=plateau reads val/accuracy"),
        ([*PLATEAU, "dataset.val_fraction=0"], "batch_schedule.reads=val/accuracy: there is no validation set"),
        ([*PLATEAU, "lr_schedule.warmup=5it"], "5it: how many samples iterations hold is not known ahead"),
        (["batch_schedule=grow"], "batch_schedule=grow: grows where lr_schedule=step would"),
        (["batch_schedule=ramp", "batch_schedule.strat=4"], "batch_schedule.strat=4: .*did you mean"),
        (
            ["batch_schedule=ramp", "model=cnn", "batch.micro_size=16"],
            "batch.micro_size=16 splits the mini-batch of 32, over all of which batch norm is taken",
        ),
        (
            [*PLATEAU, "model=cnn", "batch.micro_size=64"],
            "batch.micro_size=64 splits the mini-batch of 129, over all of which batch norm is taken",
        ),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_refused(train: Callable[..., Any], choice: list[str], message: str) -> None:
    with pytest.raises(Refused, match=message):
        train("duration=1ep", *choice)


def test_groups_stay_while_the_mini_batch_outgrows_the_micro_batch(train: Callable[..., Any]) -> None:
    run = train(
        *["model=cnn", "model.channels=[2,3]", "duration=1ep", "batch_schedule=linear", "batch.size=64"],
        *["batch.micro_size=16", "batch_norm.group_size=8"],
    )
    table = rows(run.run_dir)
    assert {row["num_micro_batches"] for row in table} == {1, 2, 3, 4}


class Once:
    """A schedule of one's own: doubled after a hundred samples."""

    def __init__(self, *, size: int) -> None:
        self._size = size

    def __call__(self, horizon: Any) -> list[tuple[int, int]]:
        return [(0, self._size), (100, 2 * self._size)]


def test_ones_own_schedule_trains(train: Callable[..., Any]) -> None:
    own = "batch_schedule._target_=tests.training.test_batch_schedule.Once"
    table = rows(train("trust=[tests]", own, "duration=1ep", "batch.size=20").run_dir)
    assert [row["batch_size"] for row in table][:7] == [20, 20, 20, 20, 20, 40, 40]


def test_noise_scale_schedule_estimates_and_decides_alike_whatever_the_micro_batches(train: Callable[..., Any]) -> None:
    choice = [*NOISE, "duration=2ep", "trainer.precision=64-true"]
    whole, cut = (rows(train(*choice, *more).run_dir) for more in ([], ["batch.micro_size=50"]))
    assert [row["batch_size"] for row in whole] == [row["batch_size"] for row in cut]
    column = "batch_schedule/noise_scale"
    told = [(row[column], other[column]) for row, other in zip(whole, cut, strict=True) if column in row]
    assert len(told) > 5 and [one for one, _ in told] == pytest.approx([other for _, other in told], rel=1e-9)


def test_noise_scale_schedule_goes_by_what_the_probe_of_that_name_measures(train: Callable[..., Any]) -> None:
    probe = ["probe=noise_scale", "probe.noise_scale.every=3it", "probe.noise_scale.source=parts"]
    probe += ["probe.noise_scale.parts=4", "probe.noise_scale.half_life=10%"]
    table = rows(train(*NOISE, *probe, "duration=1ep").run_dir)
    told = [(row["batch_schedule/noise_scale"], row["noise/averaged_scale"]) for row in table[2::3]]
    assert [one for one, _ in told] == pytest.approx([other for _, other in told])
    # And it moves to half of that, where it is more than a tenth off.
    for row, after in zip(table[2:-1:3], table[3:-1:3], strict=False):
        wanted = min(max(round(0.5 * row["noise/averaged_scale"]), 16), 200) if row["noise/averaged_scale"] > 0 else 0
        is_off = wanted and max(wanted, row["batch_size"]) > 1.1 * min(wanted, row["batch_size"])
        assert after["batch_size"] == (wanted if is_off else row["batch_size"])


def test_noise_scale_schedule_that_never_moves_changes_no_bit_of_the_training(train: Callable[..., Any]) -> None:
    still = train(*NOISE, "batch_schedule.hysteresis=1e9", "duration=1ep", "model.dropout=0.2")
    plain = train("batch.size=16", "duration=1ep", "model.dropout=0.2")
    assert still["weights_sha256"] == plain["weights_sha256"]


def test_parts_larger_than_a_micro_batch_are_refused(train: Callable[..., Any]) -> None:
    with pytest.raises(Refused, match="a part of up to 50 samples is larger than micro-batches of 16: .*parts=13"):
        train(*NOISE, "batch.micro_size=16")
