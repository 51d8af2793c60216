"""Files of strangers: group files, saved configs, data. What they try has no effect.

Names of code are in test_trust.py, pickles in tests/training/test_sealed.py, arrays in tests/data/test_bad_input.py.
"""

import gzip
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from mbtrain.config.check import check
from mbtrain.config.compose import composed
from mbtrain.data import idx
from mbtrain.data.arrays import NpzFile
from mbtrain.data.idx import read_idx
from mbtrain.plan.refused import Refused
from mbtrain.run_folder import continued
from mbtrain.training.sealed import Damaged, read_plain

SECRET = "MBTRAIN_TEST_SECRET"


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(SECRET, "swordfish")
    return "swordfish"


READS = [
    f"${{oc.env:{SECRET}}}",
    f"a-${{ oc.env:{SECRET} }}-b",
    f"${{oc.env:{SECRET},default}}",
    f"${{oc.decode:${{oc.env:{SECRET}}}}}",
    f"${{oc.${{word}}:{SECRET}}}",
    f"${{${{whole}}:{SECRET}}}",
    f"${{oc.create:{{a: ${{oc.env:{SECRET}}}}}}}",
    f"${{oc.select:x,${{oc.env:{SECRET}}}}}",
    f"${{now:${{oc.env:{SECRET}}}}}",
]


@pytest.mark.parametrize("text", READS)
@pytest.mark.parametrize("group", ["experiment", "dataset", "tracker"])
def test_group_file_that_reads_the_environment_is_refused_without_reading_it(
    tmp_path: Path, secret: str, text: str, group: str
) -> None:
    content = {"name": text, "word": "env", "whole": "oc.env"}
    (tmp_path / group).mkdir()
    (tmp_path / group / "theirs.yaml").write_text("# @package _global_\n" + yaml.safe_dump(content))
    with pytest.raises(Refused, match="may only name other keys") as caught:
        composed([f"{group}=theirs"], config_dir=tmp_path)
    assert secret not in str(caught.value)


def test_file_in_a_list_or_as_a_key_is_looked_at_too(tmp_path: Path, secret: str) -> None:
    (tmp_path / "model").mkdir()
    for node in ({"hidden": [READS[0]]}, {READS[0]: 1}):
        (tmp_path / "model" / "theirs.yaml").write_text(yaml.safe_dump({"_target_": "mbtrain.models.mlp.Mlp"} | node))
        with pytest.raises(Refused, match="may only name other keys"):
            composed(["model=theirs"], config_dir=tmp_path)


def test_harmless_interpolations_of_a_group_file_work(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\nname: x_${hydra:runtime.choices.model}_${seed}\nseed: 3\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    assert composed(["experiment=mine"], config_dir=tmp_path)["name"] == "x_mlp_3"


def test_environment_may_be_read_on_the_command_line(secret: str) -> None:
    assert composed([f"data_root=${{oc.env:{SECRET}}}"])["data_root"] == secret


TAGS = [
    "!!python/object/apply:os.mkdir [{mark}]",
    "!!python/object/new:os.mkdir [{mark}]",
    "!!python/name:os.system",
    "!!python/module:this",
    "!!python/object:subprocess.Popen {{args: [mkdir, {mark}]}}",
    "!!python/tuple [1]",
]


@pytest.mark.parametrize("tag", TAGS)
def test_yaml_tags_make_no_object_in_a_group_file_or_a_saved_config(
    tmp_path: Path, train: Callable[..., Any], tag: str
) -> None:
    mark = tmp_path / "made"
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "theirs.yaml").write_text(f"hidden: {tag.format(mark=mark)}\n")
    with pytest.raises(Refused):
        check(composed(["model=theirs"], config_dir=tmp_path / "conf"))
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(f"duration: {tag.format(mark=mark)}\n")
    with pytest.raises(Refused, match="config.yaml cannot be read"):
        continued(str(run), composed([]), [])
    assert not mark.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"trust": ["os", "shutil"], "model": {"_target_": "os.system", "command": "true"}},
        {"trust": ["mbtrain"], "model": {"_target_": "mbtrain.log.files.replace", "path": "x", "content": "y"}},
        {"tracker": {"x": {"_target_": "subprocess.run", "args": ["true"]}}},
        {"probe": {"x": {"_target_": "builtins.exec", "every": "1it"}}},
    ],
    ids=str,
)
def test_saved_config_of_a_stranger_trusts_nothing(tmp_path: Path, change: dict[str, Any]) -> None:
    config = composed([]) | change
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(Refused, match="trust"):
        continued(str(tmp_path), composed([]), [])


def test_interpolations_in_a_saved_config_stay_text(tmp_path: Path, secret: str) -> None:
    config = composed([]) | {"data_root": READS[0]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert continued(str(tmp_path), composed([]), [])["data_root"] == READS[0]


def test_zipped_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idx, "LARGEST", 1_000_000)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(bytes(50_000_000)))
    with pytest.raises(Refused, match="more than 1,000,000 bytes"):
        read_idx(path, dimensions=3)


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        import os

        return os.mkdir, (str(self.mark),)


def test_npz_with_pickles_or_paths_writes_and_runs_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    hostile = np.empty(1, dtype=object)
    hostile[0] = Bomb(mark)
    np.savez(tmp_path / "pickled.npz", x=hostile, y=np.zeros(1))
    (tmp_path / "plain.npz").write_bytes(pickle.dumps(Bomb(mark)))
    with zipfile.ZipFile(tmp_path / "paths.npz", "w") as archive:
        archive.writestr("../escaped.npy", b"x")
    for name in ("pickled", "plain", "paths"):
        with pytest.raises(Refused):
            NpzFile(str(tmp_path / f"{name}.npz")).splits()
    assert not mark.exists() and not (tmp_path.parent / "escaped.npy").exists()


def test_weights_file_with_a_path_that_climbs_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "climbs.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../escaped", b"x")
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb(tmp_path / "ran")))
        archive.writestr("archive/version", "3\n")
    with pytest.raises(Damaged):
        read_plain(path)
    assert not (tmp_path / "ran").exists()
