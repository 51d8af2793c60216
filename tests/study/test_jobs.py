"""What a sweep's jobs are: configs, names, folders."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import OmegaConf

from mbtrain.config.driver import PRIMARY, Driver, driver
from mbtrain.plan.refused import Refused
from mbtrain.study.folder import factors
from mbtrain.study.jobs import LONGEST, Job, checked_jobs, composed_jobs, job_folder


@pytest.fixture
def hydra() -> Iterator[Driver]:
    with driver() as made:
        yield made


def jobs(hydra: Driver, *overrides: str) -> list[Job]:
    whole = hydra.compose_config(PRIMARY, [*overrides, "hydra.mode=MULTIRUN"], RunMode.MULTIRUN)
    return checked_jobs(composed_jobs(hydra, whole))


SWEEPS = [
    ["seed=0", "batch.size=32,64"],
    ["model=mlp,cnn", "model.weights=null,runs/a", "+model.num_outputs=10"],
    ["optimizer={lr:.1},sgd"],
    ["tracker=[csv,wandb],none", "probe=gradient_norm", "seed=range(1)"],
    ["lr_schedule=glob(c*)", "seed=0"],
    ["~trainer.extra", "batch=mini_batch,full_batch"],
    ["lr_schedule.warmup=5%,0", "seed=3", "optimizer=adamw"],
]


@pytest.mark.parametrize("overrides", SWEEPS, ids=[one[0] for one in SWEEPS])
def test_a_job_is_composed_as_hydra_composes_it(hydra: Driver, overrides: list[str]) -> None:
    whole = hydra.compose_config(PRIMARY, [*overrides, "hydra.mode=MULTIRUN"], RunMode.MULTIRUN)
    parsed = OverridesParser.create(config_loader=hydra.config_loader).parse_overrides(overrides)
    combinations = [list(one) for batch in BasicSweeper.split_arguments(parsed, None) for one in batch]
    for ours, one in zip(composed_jobs(hydra, whole), combinations, strict=True):
        hydras = hydra.config_loader.load_sweep_config(whole, one)
        HydraConfig.instance().set_config(hydras)
        assert OmegaConf.to_yaml(ours) == OmegaConf.to_yaml(hydras)


def test_ranges_and_globs_are_hydras(hydra: Driver) -> None:
    assert [job.config["seed"] for job in jobs(hydra, "seed=range(10)")] == list(range(10))
    assert len(jobs(hydra, "lr_schedule=glob(*)")) == 4


def test_a_folder_is_named_by_what_changes_the_training(hydra: Driver) -> None:
    free = ["tracker.csv.x=1", "sweep.jobs=3", "sweep_dir=s", "checkpoint.keep=9", "resume=never", "data_root=/d"]
    assert job_folder(["seed=1", *free, "batch.size=2"]) == "batch.size=2,seed=1"


def test_a_long_name_is_cut_and_told_apart_by_a_hash() -> None:
    one, other = (job_folder([f"model.hidden=[{'8,' * 80}{width}]"]) for width in (8, 16))
    assert len(one) == len(other) == LONGEST and one != other and one.startswith("model.hidden=[8,8")


def test_a_tracker_without_a_group_gets_the_sweeps_name(hydra: Driver, tmp_path: Path) -> None:
    (job,) = jobs(hydra, "seed=0", "tracker=[wandb,csv]", f"sweep_dir={tmp_path}/mine")
    assert job.config["tracker"]["wandb"]["group"] == "mine" and "group" not in job.config["tracker"]["csv"]
    (job,) = jobs(hydra, "seed=0", "tracker=wandb", "tracker.wandb.group=own")
    assert job.config["tracker"]["wandb"]["group"] == "own"


def test_jobs_of_several_models_share_a_folder(hydra: Driver) -> None:
    assert {job.folder.parent for job in jobs(hydra, "model=mlp,cnn")} == {Path("sweeps/digits_mlp+digits_cnn")}


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("resume=runs/a", "resume=runs/a: is one run's folder"),
        ("run_dir=a", "run_dir: each job of a sweep has its own"),
    ],
)
def test_what_is_one_runs_is_refused(hydra: Driver, override: str, line: str) -> None:
    with pytest.raises(Refused, match=line):
        jobs(hydra, override, "seed=0,1")


def test_a_key_that_some_jobs_alone_have_varies() -> None:
    assert factors([["seed=0", "a=1"], ["seed=0", "a=1", "+b=2"]]) == ["b"]


def test_what_changes_no_training_is_no_factor() -> None:
    assert factors([["seed=0", "tracker=csv", "sweep.jobs=2"], ["seed=1", "tracker=none"]]) == ["seed"]
