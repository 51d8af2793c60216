"""Composing the shipped config and the user's own."""

from pathlib import Path

import pytest
import yaml

from mbtrain.config.check import check
from mbtrain.config.compose import composed
from mbtrain.config.driver import conf_dir, driver
from mbtrain.plan.refused import Refused
from mbtrain.study.design import design_of

CHOICES = sorted(f"{file.parent.name}={file.stem}" for file in conf_dir().glob("*/*.yaml"))
# What some choices ask for besides: a word that only the user can give, or another choice.
NEEDS = {f"scaling={rule}": ["scaling.reference_size=32"] for rule in ("linear", "sqrt")}
NEEDS |= {
    f"scaling={rule}": ["scaling.reference_size=32", "optimizer=adamw"] for rule in ("adam_sqrt", "adam_half_life")
}
NEEDS |= {"batch_schedule=grow": ["lr_schedule=step"]}


def test_the_default_config_passes() -> None:
    check(composed([]))


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_of_every_group_passes(choice: str) -> None:
    values = composed([choice, *NEEDS.get(choice, [])])
    # A study is no part of a run's config: it has a design of its own.
    if (study := values.pop("study", None)) is not None and "arms" in study:
        assert design_of(study).cases
    check(values)


@pytest.mark.parametrize("file", sorted(conf_dir().rglob("*.yaml")), ids=lambda file: file.stem)
def test_every_file_opens_with_what_it_is(file: Path) -> None:
    lines = [line for line in file.read_text().splitlines() if not line.startswith("# @package")]
    assert lines[0].startswith("# ") and len(lines[0]) > 20


# A study says what it needs of a study's keys.
@pytest.mark.parametrize(
    "group", sorted(one.name for one in conf_dir().iterdir() if one.is_dir() and one.name != "study")
)
def test_every_choice_of_a_class_group_has_its_keys_in_one_shape(group: str) -> None:
    texts = [file.read_text() for file in (conf_dir() / group).glob("*.yaml")]
    # One that changes the whole config, such as an experiment, or chooses others, has no shape of its group.
    files = [yaml.safe_load(text) for text in texts if "@package _global_" not in text]
    plain = [set(one) for one in files if one and "_target_" not in one and "defaults" not in one]
    assert all(keys == plain[0] for keys in plain)


def test_probes_and_trackers_are_one_name_or_a_list() -> None:
    assert set(composed(["tracker=csv"])["tracker"]) == {"csv"}
    assert set(composed(["tracker=[csv,wandb]"])["tracker"]) == {"csv", "wandb"}
    assert composed(["tracker=none"])["tracker"] == {}


def test_trust_may_be_one_name_without_brackets() -> None:
    assert composed(["trust=my_data"])["trust"] == ["my_data"]


def test_interpolations_are_resolved() -> None:
    assert composed([])["name"] == "digits_mlp"


def test_an_interpolation_to_nothing_is_refused() -> None:
    with pytest.raises(Refused, match="^batch.size: Interpolation key 'nope' not found$"):
        composed(["batch.size=${nope}"])


def test_a_missing_value_is_refused() -> None:
    with pytest.raises(Refused, match=r"^name=\?\?\?: needs a value$"):
        composed(["name=???"])


def write(folder: Path, name: str, text: str) -> Path:
    file = folder / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return folder


MINE = "_target_: my_data.Mine\n"


def test_a_group_file_of_ones_own_is_found(tmp_path: Path) -> None:
    assert composed(["dataset=mine"], config_dir=write(tmp_path, "dataset/mine", MINE))["dataset"]["_target_"] == (
        "my_data.Mine"
    )


@pytest.mark.parametrize("group", ["dataset", "model", "experiment"])
@pytest.mark.parametrize(
    "text",
    [
        "# @package _global_\ntrust: [os]\n",
        "# @package _global_\nhydra:\n  callbacks:\n    x:\n      _target_: os.system\n",
        "# @package hydra.job.env_set\nPYTHONPATH: /tmp\n",
        "# @package hydra.job_logging\nformatters:\n  x:\n    (): os.system\n",
        "# @package hydra.launcher\n_target_: os.system\n",
    ],
)
def test_a_group_file_that_sets_what_may_run_is_refused(tmp_path: Path, group: str, text: str) -> None:
    with pytest.raises(Refused, match=rf"is set by {group}/mine.yaml, which may be another's: give (trust|hydra) on"):
        composed([f"{group}=mine"], config_dir=write(tmp_path, f"{group}/mine", text))


def test_a_file_that_a_group_file_pulls_in_is_refused_likewise(tmp_path: Path) -> None:
    write(tmp_path, "dataset/mine", "defaults:\n  - evil\n" + MINE)
    write(tmp_path, "dataset/evil", "# @package _global_\ntrust: [os]\n")
    with pytest.raises(Refused, match="is set by dataset/evil.yaml"):
        composed(["dataset=mine"], config_dir=tmp_path)


@pytest.mark.parametrize("name", ["train", "dataset/digits"])
def test_a_file_that_bears_a_shipped_name_is_refused_not_ignored(tmp_path: Path, name: str) -> None:
    with pytest.raises(Refused, match="has the name of a shipped file, which would be used"):
        composed([], config_dir=write(tmp_path, name, "trust: [os]\n"))


def test_a_copy_of_the_shipped_files_is_fine(tmp_path: Path) -> None:
    write(tmp_path, "model/mlp", (conf_dir() / "model" / "mlp.yaml").read_text())
    check(composed([], config_dir=tmp_path))


def test_a_hydra_group_of_anothers_folder_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "hydra/launcher/evil", "_target_: hydra._internal.core_plugins.basic_launcher.BasicLauncher\n")
    with pytest.raises(Refused, match="is set by hydra/launcher/evil.yaml"):
        composed(["hydra/launcher=evil"], config_dir=tmp_path)


@pytest.mark.parametrize("key", ["hydra.launcher._target_", "hydra.sweeper._target_", "+hydra.callbacks.x._target_"])
def test_hydra_itself_builds_nothing_untrusted(key: str) -> None:
    with pytest.raises(Refused, match="_target_=os.system: os is not trusted"):
        composed([f"{key}=os.system"])


def test_no_state_of_hydra_is_left() -> None:
    from hydra.core.global_hydra import GlobalHydra

    with pytest.raises(Refused), driver():
        raise Refused("x")
    composed([])
    assert not GlobalHydra.instance().is_initialized()


def test_an_unreadable_file_is_refused_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"mine.yaml.*line 2") as caught:
        composed(["dataset=mine"], config_dir=write(tmp_path, "dataset/mine", "a: 1\n b: [\n"))
    assert "\n" not in str(caught.value)


def test_a_config_dir_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="--config-dir=.*: there is no such folder"):
        composed([], config_dir=tmp_path / "nope")
