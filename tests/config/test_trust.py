"""The rule of what `_target_` may name."""

import sys
from pathlib import Path
from typing import Any

import pytest

from mbtrain.config.build import build, find
from mbtrain.config.check import Faults, check
from mbtrain.config.compose import composed
from mbtrain.config.trust import refuse_untrusted
from mbtrain.plan.refused import Refused

HOSTILE = [
    ("model", "os.system"),
    ("model", "subprocess.run"),
    ("model", "subprocess.Popen"),
    ("model", "builtins.eval"),
    ("dataset", "builtins.open"),
    ("loss", "builtins.exec"),
    ("dataset", "shutil.rmtree"),
    ("dataset", "pickle.loads"),
    ("dataset", "importlib.import_module"),
    ("dataset", "urllib.request.urlretrieve"),
    ("model", "torch.load"),
    ("model", "torch.hub.load"),
    ("dataset", "numpy.load"),
    ("dataset", "numpy.testing.measure"),
    ("model", "torch.nn.functional.torch.load"),
    ("model", "torch.nn.modules.module.torch.hub.load"),
    ("loss", "torch.nn.functional.importlib.import_module"),
    ("model", "torch.nn.Module.__init__"),
    ("model", "torch.nn.Linear.forward.__globals__"),
    ("model", "torch.nn.modules._functions.SyncBatchNorm"),
    ("optimizer", "torch.optim.os.system"),
    ("dataset", "torch.utils.data.datapipes.iter.FileOpener"),
    ("dataset", "torch.utils.data.get_worker_info"),
    ("dataset", "mbtrain.config.build.importlib.import_module"),
    ("dataset", "mbtrain.data.files.located"),
    ("dataset", "mbtrain.data.files.os.remove"),
    ("dataset", "mbtrain.data.idx.Path"),
    ("dataset", "mbtrain.log.files.replace"),
    ("model", "mbtrain.data.digits.Digits"),
    ("tracker.x", "mbtrain.trackers.missing"),
    ("tracker.x", "mbtrain.trackers.__main__.main"),
    ("probe.x", "mbtrain.trackers.csv.Csv"),
    ("sampler", "mbtrain.plan.order.checked"),
    ("sampler", "mbtrain.plan.order.np.load"),
    ("trainer.extra.callbacks[0]", "pytorch_lightning.Trainer"),
    ("trainer.extra.callbacks[0]", "pytorch_lightning.callbacks.os.system"),
    ("seed", "torch.nn.Linear"),
    ("model", ".models.Mlp"),
    ("model", "mbtrain.models..mlp.Mlp"),
    ("model", "ｔorch.nn.Linear"),
    ("model", "tоrch.nn.Linear"),
    ("model", "torch.nn.Linear "),
    ("model", "torch.nn.Linear\n"),
    ("model", "torch.nn"),
    ("model", "torch"),
    ("model", "torch.nnx.Linear"),
    ("model", ""),
    ("model", "."),
    ("model", None),
    ("model", 3),
    ("model", ["os.system"]),
]


@pytest.mark.parametrize(("key", "target"), HOSTILE)
def test_a_hostile_name_is_refused_saying_how_to_trust_ones_own(key: str, target: Any) -> None:
    with pytest.raises(Refused, match=r"_target_=.*(trust=\[|has no)"):
        find(target, key=key)


SHIPPED = [
    ("dataset", "mbtrain.data.digits.Digits"),
    ("dataset", "mbtrain.data.synthetic.synthetic"),
    ("sampler", "mbtrain.plan.order.Reshuffle"),
    ("model", "torch.nn.Linear"),
    ("model", "mbtrain.models.mlp.Mlp"),
    ("loss", "torch.nn.CrossEntropyLoss"),
    ("loss", "torch.nn.functional.mse_loss"),
    ("optimizer", "torch.optim.Adagrad"),
    ("probe.x", "mbtrain.probes.gradient_norm.GradientNorm"),
    ("tracker.x", "mbtrain.trackers.csv.Csv"),
    ("trainer.extra.callbacks[0]", "pytorch_lightning.callbacks.LambdaCallback"),
]


@pytest.mark.parametrize(("key", "target"), SHIPPED)
def test_what_a_key_is_for_is_trusted_there(key: str, target: str) -> None:
    assert find(target, key=key).__name__ == target.rsplit(".", 1)[-1]


@pytest.fixture
def my_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package `my_code` whose import leaves a mark, and `my_code_twin`, whose name only begins like it."""
    mark = tmp_path / "imported"
    for name in ("my_code", "my_code_twin"):
        (tmp_path / f"{name}.py").write_text(
            f"import os\nopen({str(mark)!r}, 'w').close()\n"
            "class Mine:\n    def __init__(self, size=1): self.size = size\n"
            "def make(size=1): return size\n"
            "number = 3\n"
        )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield mark  # pyright: ignore[reportReturnType]
    sys.modules.pop("my_code", None)
    sys.modules.pop("my_code_twin", None)


@pytest.mark.parametrize("trust", [(), ("my_cod",), ("my_code.part",), ("my_code_twin",)])
def test_an_untrusted_module_is_not_even_imported(my_package: Path, trust: tuple[str, ...]) -> None:
    with pytest.raises(Refused, match=r"my_code is not trusted to run code; if it is yours.*trust=\[my_code\]"):
        build({"_target_": "my_code.Mine"}, key="model", trust=trust)
    assert not my_package.exists()


def test_a_name_that_begins_like_a_trusted_package_is_not_in_it(my_package: Path) -> None:
    with pytest.raises(Refused, match="my_code_twin is not trusted"):
        build({"_target_": "my_code_twin.Mine"}, key="model", trust=["my_code"])
    assert not my_package.exists()


def test_a_config_with_an_untrusted_name_is_refused_without_importing_it(my_package: Path) -> None:
    with pytest.raises(Faults, match="my_code is not trusted"):
        check(composed(["model._target_=my_code.Mine"]))
    assert not my_package.exists()


@pytest.mark.parametrize("key", ["loss.weight", "dataset.augment", "trainer.extra", "probe", "batch.size"])
def test_a_hostile_name_deep_in_a_config_is_found(key: str) -> None:
    with pytest.raises(Faults, match=r"_target_=os.system: os is not trusted to run code"):
        check(composed([f"++{key}={{deep: [{{_target_: os.system}}]}}"]))


def test_a_trusted_package_of_ones_own_may_give_a_class(my_package: Path) -> None:
    assert build({"_target_": "my_code.Mine", "size": 4}, key="model", trust=["my_code"]).size == 4


def test_a_trusted_package_of_ones_own_may_give_a_function(my_package: Path) -> None:
    assert build({"_target_": "my_code.make", "size": 4}, key="model", trust=["my_code"]) == 4


@pytest.mark.parametrize("target", ["my_code.os.system", "my_code.os.path.join", "my_code.number", "my_code.os"])
def test_what_a_trusted_package_only_imported_is_refused(my_package: Path, target: str) -> None:
    with pytest.raises(Refused, match="is not a class or function that my_code offers"):
        find(target, key="model", trust=["my_code"])


def test_a_name_that_is_not_there_is_refused(my_package: Path) -> None:
    with pytest.raises(Refused, match=r"model._target_=my_code.Nine: my_code has no Nine"):
        find("my_code.Nine", key="model", trust=["my_code"])


def test_a_module_that_is_not_there_is_refused() -> None:
    with pytest.raises(Refused, match="no module my_absent_code"):
        find("my_absent_code.Mine", key="model", trust=["my_absent_code"])


def test_a_module_that_fails_to_import_says_so_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_broken_code.py").write_text("import a_package_that_is_not_there\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_not_there"):
        find("my_broken_code.Mine", key="model", trust=["my_broken_code"])


@pytest.mark.parametrize("name", ["a b", "a/b", "", ".a", "a.", "1a", "ä"])
def test_trust_is_of_packages(name: str) -> None:
    config = composed([]) | {"trust": [name]}
    with pytest.raises(Faults, match="trust=.*must be a list of packages"):
        check(config)


def test_the_cure_for_a_standard_module_is_not_to_trust_it() -> None:
    with pytest.raises(Refused) as caught:
        refuse_untrusted("subprocess.run", key="model")
    assert "trust=[subprocess]" not in str(caught.value)


@pytest.mark.parametrize("target", ["tоrch.nn.Linear", "ｔorch.nn.Linear", "os​.system"])
def test_trusting_a_look_alike_is_not_suggested(target: str) -> None:
    with pytest.raises(Refused, match="is not the name of a class"):
        refuse_untrusted(target, key="model")
