"""Factors and settings, found without being told."""

from pathlib import Path

from tests.analysis.folders import experiment_of, make_run, make_sweep


def test_factors_are_the_keys_in_which_configs_differ(tmp_path: Path) -> None:
    for lr in (0.1, 1e-3):
        for seed in (0, 1):
            config = {"optimizer": {"lr": lr}, "seed": seed, "run_dir": f"{lr}{seed}", "name": f"{lr}"}
            make_run(tmp_path / f"{lr}-{seed}", config=config)
    found = experiment_of(tmp_path)
    assert [(one.name, one.levels) for one in found.factors] == [("optimizer.lr", ("0.001", "0.1"))]
    assert [len(one.scores) for one in found.settings] == [2, 2]


def test_keys_that_change_together_are_one_factor(tmp_path: Path) -> None:
    for lr, size in ((0.1, 32), (0.2, 64)):
        make_run(tmp_path / str(size), config={"batch": {"size": size}, "optimizer": {"lr": lr}})
    assert [one.name for one in experiment_of(tmp_path).factors] == ["batch.size"]


def test_a_choice_of_a_group_is_a_factor_by_its_word(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, {("optimizer=sgd",): 0.5, ("optimizer=adamw",): 0.6})
    for name, target in (("sgd", "torch.optim.SGD"), ("adamw", "torch.optim.AdamW")):
        make_run(sweep / f"optimizer={name}", config={"optimizer": {"_target_": target, "lr": 0.1}})
    assert [(one.name, one.levels) for one in experiment_of(sweep).factors] == [("optimizer", ("adamw", "sgd"))]


def test_levels_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, {(f"batch.size={size}",): 0.5 for size in (128, 32, 1024)})
    assert experiment_of(sweep).factors[0].levels == ("32", "128", "1024")


def test_a_key_that_a_sweep_held_fixed_is_no_factor(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, {("batch.size=32", f"seed={seed}"): 0.5 for seed in range(2)})
    found = experiment_of(sweep)
    assert found.factors == () and len(found.settings[0].scores) == 2


def test_a_sweep_beside_another_brings_the_key_in_which_they_differ(tmp_path: Path) -> None:
    for name, size in (("a", 32), ("b", 64)):
        scores = {(f"optimizer.lr={lr}",): 0.5 for lr in (0.1, 0.2)}
        make_sweep(tmp_path / name, scores)
        for lr in (0.1, 0.2):
            make_run(tmp_path / name / f"optimizer.lr={lr}", config={"optimizer": {"lr": lr}, "batch": {"size": size}})
    assert {one.name for one in experiment_of(tmp_path / "a", tmp_path / "b").factors} == {"optimizer.lr", "batch.size"}


def test_the_same_runs_in_two_sweeps_differ_by_the_sweep(tmp_path: Path) -> None:
    for name in ("before", "after"):
        make_sweep(tmp_path / name, {("batch.size=32", "seed=0"): 0.5, ("batch.size=64", "seed=0"): 0.6})
    found = experiment_of(tmp_path / "before", tmp_path / "after")
    assert {one.name for one in found.factors} == {"batch.size", "sweep"} and len(found.settings) == 4


def test_the_same_setting_and_seed_is_no_second_seed(tmp_path: Path) -> None:
    make_run(tmp_path / "a", score=0.5)
    make_run(tmp_path / "b", score=0.5)
    found = experiment_of(tmp_path)
    assert found.num_repeated == 1 and [len(one.scores) for one in found.settings] == [1]


def test_only_done_runs_make_a_setting_s_scores(tmp_path: Path) -> None:
    make_run(tmp_path / "a", config={"seed": 0})
    make_run(tmp_path / "b", config={"seed": 1}, status="failed", message="ValueError: no")
    assert [len(one.scores) for one in experiment_of(tmp_path).settings] == [1]


def test_a_run_without_a_finite_score_diverged(tmp_path: Path) -> None:
    make_run(tmp_path / "a", config={"seed": 0})
    make_run(tmp_path / "b", config={"seed": 1}, score=None)
    (setting,) = experiment_of(tmp_path).settings
    assert setting.num_diverged == 1 and setting.finite == [0.5]


def test_a_run_that_a_loss_stopped_diverged_and_has_no_score(tmp_path: Path) -> None:
    make_run(tmp_path / "a", config={"seed": 0})
    make_run(tmp_path / "b", config={"seed": 1}, status="failed", message="Failed: iteration 2: the loss is not finite")
    (setting,) = experiment_of(tmp_path).settings
    assert setting.num_diverged == 1 and setting.finite == [0.5]
