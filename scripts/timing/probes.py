"""What a probe costs where it measures at every iteration: mbtrain with it against without, in per cent."""

from pathlib import Path
from typing import Any

from timing.cases import CASES, Case
from timing.ours import OurLoop
from timing.pairs import Way, load, summary

CNN = Case("cnn4x32", "cnn", 128, 32, num_samples=1_280)
GROUPS = ("batch_norm.group_size=32",)
NOISE, GRADIENTS = (
    ("probe=noise_scale", "probe.noise_scale.every=1it"),
    ("probe=gradients", "probe.gradients.every=1it"),
)
# What is measured, on which case, with which keys besides, which the reference has too.
ROWS: tuple[tuple[str, Case, tuple[str, ...], tuple[str, ...]], ...] = (
    ("noise scale, micro-batches", CASES["mlp8x32"], NOISE, ()),
    ("noise scale, micro-batches", CNN, NOISE, GROUPS),
    ("noise scale, norm layers", CNN, (*NOISE, "probe.noise_scale.layers=norm"), GROUPS),
    ("noise scale, closed form", CASES["mlp256"], (*NOISE, "probe.noise_scale.source=per_example"), ()),
    ("noise scale, own parts", CASES["mlp256"], (*NOISE, "probe.noise_scale.source=parts"), ()),
    ("gradients, micro-batches", CASES["mlp8x32"], GRADIENTS, ()),
    ("gradients, micro-batches", CNN, GRADIENTS, GROUPS),
    ("gradients, sizes only", CASES["mlp256"], GRADIENTS, ()),
    ("probe=cheap as it is", CASES["mlp256"], ("probe=cheap",), ()),
    ("probe=cheap as it is", CNN, ("probe=cheap",), GROUPS),
)


def measured(folder: Path, way: Way, *, samples: int | None) -> dict[str, Any]:
    """The table: ratios of an iteration with the probe to one without."""
    before, rows = load(), []
    for name, case, overrides, shared in ROWS:
        case = case if samples is None else case.shortened(samples)
        way.tell(f"probes, {name}, {case.name}")
        peers = {"probe": OurLoop(case, folder, *shared, *overrides)}
        pairs = way.pairs(OurLoop(case, folder, *shared), peers)
        rows.append({"probe": name, "case": case.name, **summary(pairs["probe"])})
    return {**way.described(), "load": {"before": before, "after": load()}, "rows": rows}
