"""A function that torch compiles, called as torch left it: the same numbers, and a look at the model when asked."""

import os
import shutil
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from mbtrain.training import compiled
from mbtrain.training.traced import Traced

pytestmark = pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="no C++ compiler")


class Scale(nn.Module):
    """Multiplies by a number that somebody may set."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = 2.0

    def forward(self, x: Tensor) -> Tensor:
        """`factor * x`."""
        return x * self.factor


class Calls:
    """Its method is compiled, and holds the model as an iteration does."""

    def __init__(self, model: nn.Module) -> None:
        self.forward = SimpleNamespace(model=model)

    def method(self, x: Tensor) -> Tensor:
        """The model's outputs, and 1."""
        return self.forward.model(x) + 1


@pytest.fixture(autouse=True)
def switches() -> Iterator[None]:
    """As the engine compiles."""
    with compiled._switches():
        yield


@pytest.mark.slow
@pytest.mark.parametrize("is_method", [False, True])
def test_what_was_compiled_is_called_and_looked_at_again_when_asked(is_method: bool) -> None:
    model, x = Scale(), torch.arange(4.0)
    traced = Traced(Calls(model).method if is_method else lambda x: model(x) + 1)
    for _ in range(4):
        assert torch.equal(traced(x), 2 * x + 1)
    model.factor = 3.0
    # Nobody has asked.
    assert torch.equal(traced(x), 2 * x + 1)
    traced.look_again()
    with pytest.raises(torch._dynamo.exc.RecompileError):
        traced(x)
    model.factor = 2.0
    for _ in range(2):
        assert torch.equal(traced(x), 2 * x + 1)


@pytest.mark.slow
def test_each_kind_of_call_has_code_of_its_own() -> None:
    traced = Traced(lambda x: x.sum() / len(x), kind=len)
    for size in (2, 3, 2, 3, 5, 2, 5):
        assert traced(torch.arange(float(size))) == (size - 1) / 2


@pytest.mark.slow
def test_a_model_that_another_trace_would_serve_is_told_at_the_second_call() -> None:
    model, x = Scale(), torch.ones(2)
    traced = Traced(lambda x: model(x))
    traced(x)
    model.factor = 5.0
    with pytest.raises(torch._dynamo.exc.RecompileError):
        traced(x)


@pytest.mark.slow
def test_where_torch_keeps_its_code_elsewhere_it_is_called_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch._dynamo.eval_frame, "_debug_get_cache_entry_list", lambda code: [])
    model, x = Scale(), torch.ones(2)
    traced = Traced(lambda x: model(x))
    for _ in range(3):
        assert torch.equal(traced(x), 2 * x)
    # By its wrapper, which looks at each call.
    model.factor = 5.0
    with pytest.raises(torch._dynamo.exc.RecompileError):
        traced(x)
