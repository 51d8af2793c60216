"""The noise-scale probe: every way to the parts against a plain autograd loop; groups, metric, averages, resume."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from mbtrain import assembly as assembly_module
from mbtrain.core.gradient import mean_gradient
from mbtrain.core.noise_scale import Noise, noise
from mbtrain.data.synthetic import Quadratic, synthetic
from mbtrain.losses.numbers import MeanSquaredError
from mbtrain.plan.duration import Duration
from mbtrain.plan.refused import Refused
from mbtrain.plan.run import RunPlan
from mbtrain.probes.contract import Scheduled
from mbtrain.probes.lens import Lens
from mbtrain.probes.noise_scale import NoiseScale
from mbtrain.training.probing import Probing
from tests.conftest import rows, without_times

EACH = ["probe=noise_scale", "probe.noise_scale.every=1it"]
EXACT = ["trainer.precision=64-true", "duration=2it", "batch.size=12", *EACH]
TEXT = ["dataset=text_lines", "model=gpt", "model.width=16", "model.depth=1", "optimizer=adamw"]
QUADRATIC = {
    "kind": "quadratic",
    "task": "numbers",
    "num_samples": 640,
    "dimension": 10,
    "num_classes": 2,
    "noise": 0.5,
    "decay": 1.0,
}
NETS = {
    "mlp": [],
    "cnn": ["model=cnn", "batch_norm=group_norm", "batch_norm.channels_per_group=4", "model.channels=[4,8]"],
}


class Loop:
    """The reference: the gradient of every sample by autograd, one after another."""

    needs = ("rehearsal",)

    def __init__(self) -> None:
        self.found: list[Noise] = []

    def rehearse(self, rehearsal: Any) -> None:
        gradients, weights = [], []
        for sample in rehearsal.micro_batches(1):
            values, shares = rehearsal.losses(sample)
            weights.append(float(values.numel() if shares is None else shares.sum()))
            each = torch.autograd.grad(values.sum() / weights[-1], rehearsal.parameters)
            gradients.append(torch.cat([one.flatten() for one in each]))
        share, g = torch.tensor(weights, dtype=torch.float64), torch.stack(gradients).double()
        mean = (share[:, None] * g).sum(0) / share.sum()
        total, weighted_sq = float(share.sum()), (share * g.square().sum(1)).sum()
        self.found.append(noise(weighted_sq, mean.square().sum(), weight=total, num_parts=len(weights)))

    def __call__(self, parameters: Any) -> dict[str, torch.Tensor]:
        return {}


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    """A reference beside the probes of the config."""
    found, probes = Loop(), assembly_module.probes_of

    def both(config: Any, plan: Any, *others: Any) -> Any:
        every = Scheduled(found, "loop", [plan.cadence(Duration.parse("1it"))])
        return (*probes(config, plan, *others), every)

    monkeypatch.setattr(assembly_module, "probes_of", both)
    return found


def compare(table: list[dict[str, Any]], loop: Loop) -> None:
    assert len(table) == len(loop.found)
    for row, expected in zip(table, loop.found, strict=True):
        assert row["noise/trace"] == pytest.approx(float(expected.trace), rel=1e-9)
        assert row["noise/gradient_sq"] == pytest.approx(float(expected.gradient_sq), rel=1e-9, abs=1e-12)
        assert row["noise/scale"] == pytest.approx(float(expected.scale), rel=1e-9)


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize(
    "way",
    [
        ["probe.noise_scale.source=micro_batches", "batch.micro_size=1"],
        ["probe.noise_scale.source=per_example"],
        ["probe.noise_scale.source=per_example", "batch.micro_size=5"],
        ["probe.noise_scale.source=parts", "probe.noise_scale.parts=12"],
    ],
    ids=["micro-batches", "per example", "per example in micro-batches", "parts"],
)
def test_every_way_to_the_samples_is_the_autograd_loop(
    train: Callable[..., Any], loop: Loop, way: list[str], net: str
) -> None:
    compare(rows(train(*EXACT, *NETS[net], *way).run_dir), loop)


def test_samples_of_a_text_weigh_their_tokens(train: Callable[..., Any], loop: Loop, tmp_path: Any) -> None:
    text = tmp_path / "lines.txt"
    text.write_text("\n".join("ab" * (1 + line * 7 % 11) for line in range(60)))
    way = [f"dataset.path={text}", "probe.noise_scale.source=per_example"]
    compare(rows(train(*EXACT, *TEXT, *way).run_dir), loop)


def test_micro_batches_are_parts_of_one_s_own(train: Callable[..., Any]) -> None:
    one = rows(train(*EXACT, "batch.micro_size=5").run_dir)
    parts = ["probe.noise_scale.source=parts", "probe.noise_scale.parts=3"]
    two = rows(train(*EXACT, "batch.micro_size=4").run_dir)
    other = rows(train(*EXACT, *parts).run_dir)
    assert [row["noise/trace"] for row in two] == pytest.approx([row["noise/trace"] for row in other], rel=1e-9)
    assert one[0]["noise/trace"] != pytest.approx(two[0]["noise/trace"], rel=1e-3)


class Normed(nn.Sequential):
    """A net whose batch norm sees one value a channel and sample."""

    def __init__(self, input_shape: Any, num_outputs: int) -> None:
        layers = [nn.Linear(math.prod(input_shape), 16), nn.BatchNorm1d(16)]
        super().__init__(nn.Flatten(), *layers, nn.Linear(16, num_outputs))


def test_parts_under_batch_norm_are_bn_groups_none_of_them_a_single_sample(train: Callable[..., Any]) -> None:
    net = ["model._target_=tests.probes.test_noise_scale.Normed", "~model.hidden", "~model.dropout", "trust=[tests]"]
    net += [*EXACT, "batch.size=25", "batch_norm.group_size=4"]
    parts = rows(train(*net, "probe.noise_scale.source=parts", "probe.noise_scale.parts=8").run_dir)
    own = rows(train(*net, "batch.micro_size=4").run_dir)
    assert own[0]["num_micro_batches"] == 6
    assert [row["noise/trace"] for row in parts] == pytest.approx([row["noise/trace"] for row in own], rel=1e-9)


def test_groups_add_up(train: Callable[..., Any]) -> None:
    whole = rows(train(*EXACT).run_dir)
    for row, plain in zip(rows(train(*EXACT, "probe.noise_scale.group_by=layer").run_dir), whole, strict=True):
        layers = [row[f"noise/layers.{layer}/trace"] for layer in (0, 2)]
        assert sum(layers) == pytest.approx(row["noise/trace"], rel=1e-12)
        assert row["noise/trace"] == pytest.approx(plain["noise/trace"], rel=1e-12)
        assert row["noise/averaged_scale"] == pytest.approx(plain["noise/averaged_scale"], rel=1e-12)


def test_norm_layers_alone_are_the_sum_of_theirs(train: Callable[..., Any]) -> None:
    way = [*EXACT, "model=cnn", "batch_norm.group_size=3", "batch.micro_size=3"]
    alone = rows(train(*way, "probe.noise_scale.layers=norm").run_dir)
    each = rows(train(*way, "probe.noise_scale.group_by=layer").run_dir)
    for row, layers in zip(alone, each, strict=True):
        norms = [layers[f"noise/layers.{layer}/trace"] for layer in (1, 5)]
        assert row["noise/trace"] == pytest.approx(sum(norms), rel=1e-9)


def test_adam_s_metric_is_the_update_s_before(train: Callable[..., Any]) -> None:
    model = nn.Linear(3, 2).double()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    gradients = [torch.rand_like(one) for one in model.parameters()]
    trained = dict(model.named_parameters())
    lens = Lens(trained, group_by="none", optimizer=optimizer, is_kept=[True, True], is_preconditioned=True)
    assert not lens.is_ready
    for _ in range(2):
        for parameter, one in zip(model.parameters(), gradients, strict=True):
            parameter.grad = one.clone()
        optimizer.step()
    lens.begin()
    # After the same gradient twice, the corrected second moment is its square: each number counts as one.
    assert float(lens.see(gradients)) == pytest.approx(8, rel=1e-4)


def test_averages_are_bit_equal_after_a_resume(train: Callable[..., Any]) -> None:
    way = [*EACH, "batch.micro_size=8", "checkpoint.every=5it", "optimizer=adamw"]
    way.append("probe.noise_scale.preconditioned=true")
    straight = rows(train(*way, "duration=20it").run_dir)
    here = train(*way, "duration=10it").run_dir
    train(*way, "duration=20it", f"run_dir={here}")
    assert without_times(rows(here)) == without_times(straight)
    assert straight[0].get("noise/preconditioned/scale") is None and "noise/preconditioned/scale" in straight[1]


def test_clipping_does_not_show(train: Callable[..., Any]) -> None:
    plain = rows(train(*EXACT, "duration=1it").run_dir)[0]
    clipped = rows(train(*EXACT, "duration=1it", "optimizer.clip_norm=1e-3").run_dir)[0]
    assert clipped["noise/gradient_sq"] == plain["noise/gradient_sq"]


@pytest.mark.parametrize(
    "way",
    [["model=cnn"], ["model=cnn", "batch.micro_size=8", "batch_norm.group_size=4"], ["model.dropout=0.2"]],
)
@pytest.mark.parametrize("source", ["auto", "parts"])
def test_measuring_changes_no_bit(train: Callable[..., Any], way: list[str], source: str) -> None:
    plain = train("duration=8it", *way)
    assert (
        train("duration=8it", *way, *EACH, f"probe.noise_scale.source={source}")["weights_sha256"]
        == (plain["weights_sha256"])
    )


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["probe.noise_scale.source=micro"], "probe.noise_scale.source=micro: there are auto, micro_batches"),
        (["probe.noise_scale.parts=1"], "probe.noise_scale.parts=1: it takes at least 2"),
        (["probe.noise_scale.layers=norm"], "the model has no norm layer"),
        (["probe.noise_scale.preconditioned=true"], "needs an optimizer of Adam's kind"),
        (["model=cnn", "probe.noise_scale.source=per_example"], "with batch norm a sample has no gradient of its own"),
    ],
)
def test_what_cannot_be_measured_is_refused(train: Callable[..., Any], given: list[str], told: str) -> None:
    with pytest.raises(Refused) as error:
        train(*EACH, *given)
    assert told in str(error.value)


@pytest.mark.slow
def test_the_interval_covers_the_known_scale_of_synthetic_data_in_91_of_100_seeds() -> None:
    assert sum(covers(seed) for seed in range(200)) >= 182


def covers(seed: int) -> bool:
    """Whether the probe, over one epoch at fixed weights, tells an interval that holds the true noise scale."""
    data = synthetic(**QUADRATIC, seed=seed)  # pyright: ignore[reportArgumentType]
    assert isinstance(data, Quadratic)
    inputs, targets = (torch.from_numpy(one) for one in data.splits().train)
    torch.manual_seed(seed)
    model = nn.Linear(data.dimension, 1).double()
    trained = dict(model.named_parameters())
    optimizer = torch.optim.SGD(trained.values(), lr=0.0)
    plan = RunPlan(num_samples=len(inputs), batch_size=32, duration=Duration.parse("1ep"))
    probe = NoiseScale(model=model, optimizer=optimizer, trained=trained, plan=plan, half_life="1000000ep")
    told: dict[str, float] = {}
    for iteration in map(plan.iteration, range(plan.num_iterations)):
        here = slice(iteration.start, iteration.start + iteration.size)
        probing = Probing([probe], pytest.fail, iteration, 1, waited_s=0.0)

        def evaluate(part: slice, probing: Probing = probing) -> tuple[torch.Tensor, None]:
            values = MeanSquaredError()(model(inputs[part]), targets[part])
            probing.see_losses(values, None)
            return values, None

        with probing.watching():
            result = mean_gradient([here], evaluate, list(trained.values()), num_micro_batches=1)
        columns = probing.before_update(result, list(trained.values()))
        told = probe.derived({name: float(one) for name, one in columns.items()} | {"samples_seen": here.stop})
    return told["noise/scale_low"] <= true_scale(data, model) <= told["noise/scale_high"]


def true_scale(data: Quadratic, model: nn.Linear) -> float:
    """B_simple of the population: g = 2 r (x, 1) with r = d.x + c - noise e, by the moments of a Gaussian.

    E[g] = 2 (H d, c) and E|g|^2 = 4 (E[r^2] (tr H + 1) + 2 |H d|^2), E[r^2] = d'H d + c^2 + noise^2.
    """
    weights, shift = model.weight.detach().numpy()[0], float(model.bias.detach())
    pull = data.spectrum * (weights - data.minimum)
    gradient_sq = 4 * (pull @ pull + shift**2)
    mean_sq = 4 * ((data.loss(weights) + shift**2) * (data.spectrum.sum() + 1) + 2 * pull @ pull)
    return float((mean_sq - gradient_sq) / gradient_sq)
