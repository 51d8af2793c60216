"""Conclusions: the choice on validation data, what may be ruled out, what is told in words."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from mbtrain.analysis.experiment import Experiment, Setting
from mbtrain.analysis.findings import Findings, conclude
from mbtrain.analysis.score import Score
from mbtrain.analysis.sentences import lead, lead_of_run, open_questions
from tests.analysis.folders import experiment_of, grid, make_run, make_sweep


def made_up(*scores: list[float]) -> Experiment:
    settings = tuple(Setting({"a": str(i)}, (), tuple(values)) for i, values in enumerate(scores))
    return Experiment((), Score("val/loss"), (), settings, 0)


def test_the_best_has_the_lowest_mean_loss() -> None:
    assert conclude(made_up([3, 3.1], [1, 1.1], [2, 2.1])).ranking[0].levels == {"a": "1"}


def test_the_best_has_the_highest_mean_accuracy(tmp_path: Path) -> None:
    make_sweep(tmp_path, {("batch.size=32",): 0.5, ("batch.size=64",): 0.6})
    found = experiment_of(tmp_path)
    high = Experiment(found.runs, Score("val/accuracy"), found.factors, found.settings, 0)
    best = conclude(high).best
    assert best is not None and best.levels == {"batch.size": "64"}


def test_a_setting_with_a_diverged_seed_is_not_chosen() -> None:
    best = conclude(made_up([0.1, float("nan")], [1, 1.1])).best
    assert best is not None and best.levels == {"a": "1"}


def test_a_single_lucky_run_is_not_chosen_over_many_seeds() -> None:
    best = conclude(made_up([0.1], [1.0, 1.1, 1.2])).best
    assert best is not None and best.levels == {"a": "1"}


def test_two_settings_are_compared_by_welch_s_test() -> None:
    a, b = [1.0, 1.2, 1.1], [1.5, 1.9, 1.6]
    (rival,) = conclude(made_up(a, b)).rivals
    assert rival.p == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue, rel=1e-12)


def test_an_interval_excludes_zero_where_its_setting_is_ruled_out() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        found = conclude(made_up(*(generator.normal(i / 2, 1, 4).tolist() for i in range(5))))
        assert all((one.difference.low > 0) == one.is_ruled_out for one in found.rivals)


@pytest.mark.parametrize("means", [[0, 0, 0, 0, 0, 0], [0, 0.3, 0.6, 3, 3, 3]])
def test_the_truly_best_is_ruled_out_in_at_most_five_percent_of_sweeps(means: list[float]) -> None:
    generator = np.random.default_rng(0)
    lost = 0
    for _ in range(250):
        found = conclude(made_up(*(generator.normal(mean, 1, 4).tolist() for mean in means)))
        lost += any(one.setting.levels == {"a": "0"} and one.is_ruled_out for one in found.rivals)
    assert lost / 250 <= 0.05


def test_more_seeds_are_asked_for_than_there_were() -> None:
    for rival in conclude(made_up([1.0, 1.2, 1.1], [1.2, 1.9, 1.1], [1.5, 1.5, 1.9])).open_rivals:
        assert rival.seeds_needed is None or rival.seeds_needed > 3


@pytest.fixture
def findings(tmp_path: Path) -> Callable[..., Findings]:
    def make(function: Callable[[float, int, int], float], seeds: int = 3) -> Findings:
        scores = grid(function, rates=(0.01, 0.1, 1.0), sizes=(32, 64), seeds=seeds)
        return conclude(experiment_of(make_sweep(tmp_path / "sweep", scores)))

    return make


def test_the_lead_names_the_best_with_n_interval_and_test_score(findings: Callable[..., Findings]) -> None:
    told = lead(findings(lambda lr, size, seed: abs(np.log10(lr) + 1) + size / 1000 + seed / 10))
    assert "Of 6 settings, optimizer.lr=0.1 batch.size=32 has the best mean validation loss" in told[0]
    # 0.032, 0.132, 0.232: mean .132, half width 4.303 * .1 / sqrt 3 = .248
    assert "0.13 [-0.12, 0.38], n = 3; test loss" in told[0]


def test_the_lead_says_which_factor_matters(findings: Callable[..., Findings]) -> None:
    told = lead(findings(lambda lr, size, seed: lr + seed / 1000))
    assert "optimizer.lr explains 100 %" in told[1]


def test_single_runs_are_not_called_better(findings: Callable[..., Findings]) -> None:
    found = findings(lambda lr, size, seed: lr * size, seeds=1)
    assert any("none can be told apart" in one for one in lead(found))
    assert any("repeat with seed=" in one for one in open_questions(found))


def test_an_optimum_at_the_edge_is_told_with_what_to_try(findings: Callable[..., Findings]) -> None:
    told = open_questions(findings(lambda lr, size, seed: -lr + seed / 10))
    assert any("largest that was tried (1)" in one and "optimizer.lr=10" in one for one in told)


def test_an_interior_optimum_is_no_edge(findings: Callable[..., Findings]) -> None:
    found = findings(lambda lr, size, seed: abs(np.log10(lr) + 1) + seed / 10)
    assert found.edges() == []


def test_failures_are_in_the_lead(tmp_path: Path) -> None:
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", config={"seed": 1}, status="failed", message="no")
    assert any("1 of 2 runs did not end well" in one for one in lead(conclude(experiment_of(tmp_path))))


def test_one_run_is_called_one_run(tmp_path: Path) -> None:
    found = experiment_of(make_run(tmp_path / "a"))
    told = lead_of_run(found.runs[0], found.score)
    assert "validation loss 0.5" in told[0] and "no interval" in told[1]


def test_a_level_that_no_run_survived_is_told_and_given_no_share(tmp_path: Path) -> None:
    for seed in range(3):
        make_run(tmp_path / f"a{seed}", config={"seed": seed, "batch": {"size": 16}}, score=0.5 + seed)
        make_run(tmp_path / f"b{seed}", config={"seed": seed, "batch": {"size": 64}}, score=0.7 + seed)
        config = {"seed": seed, "optimizer": {"lr": 9}}
        make_run(tmp_path / f"c{seed}", config=config, status="failed", message="Failed: the loss is not finite")
    found = conclude(experiment_of(tmp_path))
    assert found.shares is not None and [one.name for one in found.shares.effects] == ["batch.size"]
    assert "No run with optimizer.lr=9 has a score (3 runs)." in lead(found)
