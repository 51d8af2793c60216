"""What advice says of measurements whose answer is known."""

from typing import Any

import pytest

from mbtrain.analysis.advice import advice_of, clock_of, critical_of
from mbtrain.analysis.advice_page import page_of
from mbtrain.analysis.advice_words import answer, command_line, sentences
from mbtrain.analysis.page import markdown


def way(size: int, micro: int, seconds: float, *, cpu: float | None = None) -> dict[str, Any]:
    one = {"batch_size": size, "micro_size": micro, "seconds": [seconds] * 5, "peak_bytes": 0}
    return one | {"cpu_seconds": [seconds if cpu is None else cpu] * 5}


def measured(ways: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    """As study=advise writes it, for an MLP with noise scale 100."""
    timing = {"num_samples": 60000, "device": "cpu", "threads": 1, "workers": 0, "has_batch_norm": False}
    timing |= {"kept_bytes": {str(one["micro_size"]): 1000 for one in ways}, "ways": ways, "dropped": []}
    own = {"size": 32, "micro_size": None, "accumulate": None, "group_size": None, "lr": 0.1, "optimizer": "SGD"}
    noise = {"scale": 100.0, "low": 90.0, "high": 112.0, "num_measured": 200, "run": "r", "trajectory": "2ep"}
    content: dict[str, Any] = {"question": "What?", "command": "mbtrain study=advise", "given": ["model=mlp"]}
    content |= {"git": None, "versions": {"torch": "2"}, "cores": 2, "own": own, "noise": noise, "timing": timing}
    content["calibration"] = None
    for name, change in changes.items():
        content[name] = (content[name] or {}) | change
    return content


# No cost of an update: the smallest is best at every B_crit.
CHEAP = [way(32, 32, 0.32), way(64, 64, 0.64), way(64, 32, 0.64)]
# An update costs 50 passes over 32: accumulating pays at every B_crit in 50 to 1000; a large piece is slow.
DEAR = [way(32, 32, 16.32), way(256, 32, 18.56), way(256, 256, 40.0)]
# An update costs one pass over 32: two passes of 32 pay above B_crit = 64, between the ends 50 and 1000.
BETWEEN = [way(32, 32, 0.64), way(64, 32, 0.96)]


def test_cheap_updates_are_told_not_to_accumulate() -> None:
    advice = advice_of(measured(CHEAP))
    assert answer(advice).startswith("Do not accumulate: batch.size=32 in one piece: at most 1.00 times")
    assert command_line(advice) == "mbtrain model=mlp batch.size=32"


def test_dear_updates_are_told_to_accumulate() -> None:
    advice = advice_of(measured(DEAR))
    assert answer(advice).startswith("Accumulate: batch.size=256 batch.micro_size=32")
    assert command_line(advice) == "mbtrain model=mlp batch.size=256 batch.micro_size=32"
    assert "B_crit = 0.26 to 5.12: it pays" in " ".join(sentences(advice))


def test_ends_that_disagree_say_the_range_and_what_would_tell() -> None:
    said = answer(advice_of(measured(BETWEEN)))
    assert said.startswith("Whether to accumulate cannot be told: B_crit is 50 to 1,000")
    assert said.endswith("study.calibrate=true would tell.")


def test_unbounded_noise_scale_leaves_the_range_open_above() -> None:
    critical = critical_of(measured(CHEAP, noise={"high": None}))
    assert critical is not None and (critical.low, critical.high) == (45.0, float("inf"))


def test_noise_scale_without_bounds_gives_no_advice() -> None:
    advice = advice_of(measured(CHEAP, noise={"scale": -3.0, "low": 0.0, "high": None}))
    assert advice.verdict is None and answer(advice).startswith("No advice: the noise scale is not determined")


def test_own_accumulation_is_what_is_judged() -> None:
    content = measured([*CHEAP, way(128, 128, 1.28), way(128, 32, 1.28)], own={"size": 64, "accumulate": 2})
    assert "2 x 32 against stepping on every 32" in " ".join(sentences(advice_of(content)))


def test_processor_seconds_count_where_others_kept_the_machine_busy() -> None:
    timing = measured([way(32, 32, 1.0, cpu=0.5)])["timing"]
    assert clock_of(timing) == "cpu"
    assert clock_of(timing | {"threads": 2}) == clock_of(timing | {"device": "cuda:0"}) == "wall"


def test_disturbed_rounds_of_the_processor_clock_do_not_count() -> None:
    disturbed = way(32, 32, 3.0) | {"cpu_seconds": [2.0, 1.0, 1.1, 1.05, 4.0]}
    advice = advice_of(measured([disturbed, way(64, 64, 6.0, cpu=2.0)]))
    assert advice.ways[0].seconds == 1.05
    assert "do not agree" not in " ".join(sentences(advice))


def test_rounds_that_do_not_agree_are_named() -> None:
    wild = way(32, 32, 1.0, cpu=1.6) | {"seconds": [1.0, 1.3, 1.6, 1.9, 2.2]}
    said = " ".join(sentences(advice_of(measured([wild, way(64, 64, 2.0)]))))
    assert "The fastest rounds of 1 of 2 ways (32 at once) do not agree within a tenth" in said


def test_contention_is_said() -> None:
    said = " ".join(sentences(advice_of(measured([way(32, 32, 1.0, cpu=0.5), way(64, 64, 2.0, cpu=1.0)]))))
    assert "Something else kept the machine busy" in said


def test_batch_norm_is_named_and_its_groups_given() -> None:
    advice = advice_of(measured(DEAR, timing={"has_batch_norm": True, **_timing(DEAR)}))
    assert "ghost batch norm" in " ".join(sentences(advice))
    assert command_line(advice).endswith("batch.micro_size=32 batch_norm.group_size=32")


def _timing(ways: list[dict[str, Any]]) -> dict[str, Any]:
    return {"ways": ways}


@pytest.mark.parametrize(("optimizer", "told"), [("SGD", "0.28 to 0.8"), ("AdamW", "0.28 (square-root rule")])
def test_learning_rate_is_named_by_the_rule_of_the_optimizer(optimizer: str, told: str) -> None:
    said = " ".join(sentences(advice_of(measured(DEAR, own={"optimizer": optimizer}))))
    assert f"optimizer.lr={told}" in said


def test_page_has_every_way_and_the_command() -> None:
    text = markdown(page_of(advice_of(measured(DEAR))))
    assert "8 x 32" in text and "batch.size=256" in text and "MEAN times" in text


def calibration(critical: float, sizes: tuple[int, ...] = (16, 64, 256)) -> dict[str, Any]:
    """Samples to a target of an exact hyperbola, six seeds a size that differ by a hundredth."""
    samples = {str(size): [(critical + size) * (50 + seed / 10) for seed in range(6)] for size in sizes}
    rest = {"target": "val/loss<=0.4", "sentence": "So it is.", "schedule": "constant", "left_out": {}}
    return rest | {"samples": samples, "rates": {str(size): 0.01 * size for size in sizes}}


def test_calibration_finds_the_critical_size_and_gives_the_verdict_the_range_could_not() -> None:
    advice = advice_of(measured(BETWEEN, calibration=calibration(640.0)))
    assert advice.critical is not None and advice.critical.fit is not None
    assert advice.critical.fit.critical == pytest.approx(640.0, rel=1e-3)
    assert advice.critical.low < 640 < advice.critical.high
    assert answer(advice).startswith("Accumulate: batch.size=64 batch.micro_size=32")
    assert command_line(advice).endswith("batch.size=64 batch.micro_size=32 optimizer.lr=0.64")


def test_ratio_of_means_is_the_hyperbola_times_the_seconds() -> None:
    advice = advice_of(measured(BETWEEN, calibration=calibration(640.0)))
    step, accumulated = advice.ways
    ratio = advice.ratio(accumulated, step)
    assert ratio.estimate == pytest.approx((640 + 64) / (640 + 32) * (0.96 / 64) / (0.64 / 32), rel=1e-3)
    assert ratio.estimate is not None and ratio.low <= ratio.estimate <= ratio.high
    assert f"Expected ratio of mean times to val/loss<=0.4: {ratio}" in " ".join(sentences(advice))


def test_extrapolation_optimizer_and_schedule_are_named() -> None:
    said = " ".join(sentences(advice_of(measured([*DEAR, way(512, 32, 20.0)], calibration=calibration(640.0)))))
    assert "Extrapolated, and not to be trusted: batch 512 (calibrated were 16 to 256)" in said
    assert "Calibrated under SGD and a constant learning rate" in said


def test_calibration_of_one_size_falls_back_to_the_range() -> None:
    advice = advice_of(measured(BETWEEN, calibration=calibration(640.0, (64,))))
    assert advice.critical is not None and (advice.critical.low, advice.critical.high) == (50.0, 1000.0)
    assert "The calibration failed" in " ".join(sentences(advice))
