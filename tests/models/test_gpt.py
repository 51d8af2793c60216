"""The decoder: what it may see, what it starts from, that every weight learns, that the embedding stays tied."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import mbtrain
from mbtrain.models.gpt import Gpt
from mbtrain.optim.groups import parameter_groups
from mbtrain.plan.refused import Refused
from tests.conftest import final_weights, rows

TINY = ["model=gpt", "model.width=16", "model.depth=2", "model.heads=2", "optimizer=adamw", "optimizer.lr=0.01"]


def tiny(**options: Any) -> Gpt:
    torch.manual_seed(0)
    return Gpt(**{"input_shape": (8,), "num_outputs": 11, "width": 16, "depth": 2, "heads": 2} | options).double()


@pytest.fixture
def text(tmp_path: Path) -> list[str]:
    """Overrides that name a small text."""
    (tmp_path / "mine.txt").write_text("the cat sat on the mat, and the dog on the log.\n" * 20)
    return ["dataset=text", f"dataset.path={tmp_path}/mine.txt", "dataset.context=8", "dataset.shares=[0.8,0.1,0.1]"]


@pytest.mark.parametrize("positions", [1, 5, 8])
def test_each_position_gives_an_output_for_every_id(positions: int) -> None:
    assert tiny()(torch.zeros(3, positions, dtype=torch.long)).shape == (3, 11, positions)


def test_a_position_sees_itself_and_what_is_before_it() -> None:
    model, ids = tiny(), torch.arange(8)[None]
    before = model(ids)
    for place in range(8):
        changed = ids.clone()
        changed[0, place] = 10
        differs = (model(changed) - before).abs().amax(1)[0] > 1e-9
        assert differs.tolist() == [position >= place for position in range(8)]


def test_attention_is_the_softmax_of_scaled_products() -> None:
    block = tiny().blocks[0]
    x = torch.randn(3, 8, 16, dtype=torch.float64)
    query, key, value = block.attend_in(x).chunk(3, 2)
    heads = []
    for part in (slice(0, 8), slice(8, 16)):
        scores = query[..., part] @ key[..., part].transpose(1, 2) / math.sqrt(8)
        scores = scores.masked_fill(torch.ones(8, 8).triu(1).bool(), -math.inf)
        heads.append(scores.softmax(2) @ value[..., part])
    assert torch.allclose(block._attention(x), torch.cat(heads, 2), atol=1e-12)


def test_every_weight_gets_a_gradient() -> None:
    model, ids = tiny(), torch.arange(8)[None]
    F.cross_entropy(model(ids), ids).backward()
    assert all(one.grad is not None and bool(one.grad.any()) for one in model.parameters())


@pytest.mark.parametrize("depth", [1, 8])
def test_weights_start_from_gpt_2_s_spreads(depth: int) -> None:
    model = Gpt(input_shape=(64,), num_outputs=300, width=256, depth=depth, heads=4)
    for name, weight in model.named_parameters():
        if weight.dim() > 1:
            spread = 0.02 / math.sqrt(2 * depth) if name.endswith("out.weight") else 0.02
            assert float(weight.detach().std()) == pytest.approx(spread, rel=0.03), name


def test_the_first_loss_is_that_of_a_uniform_guess() -> None:
    model = Gpt(input_shape=(32,), num_outputs=65, width=64)
    ids = torch.randint(65, (8, 32))
    assert float(F.cross_entropy(model(ids), torch.randint(65, (8, 32))).detach()) == pytest.approx(
        math.log(65), abs=0.1
    )


def test_input_and_output_embedding_are_one_parameter() -> None:
    model = tiny()
    sizes = {"token": 11 * 16, "position": 8 * 16, "norm": 2 * 16}
    block = 2 * 2 * 16 + (16 + 1) * 48 + (16 + 1) * 16 + (16 + 1) * 64 + (64 + 1) * 16
    assert sum(one.numel() for one in model.parameters()) == sum(sizes.values()) + 2 * block
    groups = parameter_groups(model, decays_norms=False)
    assert sum(one is model.token.weight for group in groups for one in group["params"]) == 1


def test_the_tied_embedding_s_gradient_is_that_of_both_its_places() -> None:
    model, ids, change = tiny(), torch.arange(8)[None], torch.randn(11, 16, dtype=torch.float64)
    loss = F.cross_entropy(model(ids), ids)
    (gradient,) = torch.autograd.grad(loss, model.token.weight)
    with torch.no_grad():
        ends = []
        for step in (1e-5, -2e-5):
            model.token.weight += step * change
            ends.append(float(F.cross_entropy(model(ids), ids)))
    assert float((gradient * change).sum()) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)


@pytest.mark.parametrize("extra", [[], ["ema=1ep"], ["optimizer.decay_norms=false"]], ids=str)
def test_the_embedding_is_tied_in_a_loaded_model(train: Callable[..., Any], text: list[str], extra: list[str]) -> None:
    result = train(*text, *TINY, "duration=1ep", *extra)
    model = mbtrain.load(result.run_dir)
    gpt = model.model
    assert isinstance(gpt, Gpt)
    before = model(torch.zeros(1, 1, dtype=torch.long))
    with torch.no_grad():
        gpt.token.weight.mul_(2)
        # Doubled at the input it is normalised away up to position and eps, doubled at the output it is not.
        assert float(model(torch.zeros(1, 1, dtype=torch.long)).norm() / before.norm()) > 1.5
    assert len([name for name in final_weights(result.run_dir) if "token" in name]) == 1


def test_a_loaded_model_gives_the_run_s_loss(train: Callable[..., Any], text: list[str]) -> None:
    from mbtrain.assembly import assemble
    from mbtrain.config.compose import composed

    overrides = [*text, *TINY, "ema=1ep", "trainer.precision=64-true"]
    result = train(*overrides, "duration=2ep")
    test = assemble(composed(overrides), chosen={}).data.test
    assert test is not None
    x, y = test.slice(0, len(test))
    loss = float(F.cross_entropy(mbtrain.load(result.run_dir)(x), y).detach())
    assert loss == pytest.approx(result["test/loss"], rel=1e-12)


def test_a_resumed_run_is_the_run_that_was_not_interrupted(
    train: Callable[..., Any], text: list[str], tmp_path: Path
) -> None:
    common = [*text, *TINY, "ema=1ep", "batch.micro_size=5", "batch.size=16"]
    whole = train(*common, "duration=4ep")
    train(*common, "duration=2ep", f"run_dir={tmp_path}/halved")
    resumed = train(*common, "duration=4ep", f"run_dir={tmp_path}/halved")
    assert resumed["weights_sha256"] == whole["weights_sha256"]


def test_one_epoch_lowers_the_loss(train: Callable[..., Any], text: list[str]) -> None:
    result = train(*text, *TINY, "duration=4ep", "batch.size=8")
    table = rows(result.run_dir)
    assert table[0]["train/loss"] == pytest.approx(math.log(18), abs=0.2) and result["test/loss"] < 2
    assert result["iterations"] == len(table)


def test_norms_of_a_decoder_are_no_batch_norm(train: Callable[..., Any], text: list[str]) -> None:
    plain = train(*text, *TINY, "duration=2it")
    ghost = train(*text, *TINY, "duration=2it", "batch_norm.group_size=3", "batch.micro_size=3")
    assert rows(plain.run_dir)[0]["train/loss"] == pytest.approx(rows(ghost.run_dir)[0]["train/loss"], rel=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_shape": (1, 8, 8)}, "model=gpt: needs sequences"),
        ({"heads": 3}, "model.width=16: must be a multiple of model.heads=3"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(Refused, match=message):
        tiny(**options)


def test_features_that_are_no_ids_are_refused(train: Callable[..., Any]) -> None:
    with pytest.raises(Refused, match="model=Gpt and loss=CrossEntropy do not take the data"):
        train("dataset=synthetic", *TINY)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_dropout_is_drawn_in_training_only(dropout: float) -> None:
    model, ids = tiny(dropout=dropout), torch.arange(8)[None]
    assert torch.equal(model(ids), model(ids)) is (dropout == 0)
    model.eval()
    assert torch.equal(model(ids), model(ids))
    assert all(one.p == dropout for one in model.modules() if isinstance(one, nn.Dropout))


def test_windows_are_the_same_read_from_memory_or_on_demand(train: Callable[..., Any], text: list[str]) -> None:
    common = [*text, *TINY, "duration=10it", "dataset.stride=3"]
    hashes = {train(*common, *extra)["weights_sha256"] for extra in ([], ["dataset.workers=0"])}
    assert len(hashes) == 1
