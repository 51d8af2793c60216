"""The peers of a case, measured in one run: by hand, Lightning, ours."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from timing.cases import Case
from timing.child import answered
from timing.hand import (
    HandLoop,
    by_hand,
    is_bit_equal,
    with_compiled_model,
    with_data_loader,
    with_direct_kernel,
    with_fabric,
)
from timing.lightning import LightningLoop, LoggingModule, TemplateModule
from timing.ours import WRAPPED, OurLoop, row_by_row
from timing.pairs import Way, load, summary
from timing.span import DEVICE, Peer

Make = Callable[[Case, Path], Peer]
# One pass makes an update, by torch's SGD: what some peers are written for.
PLAIN: dict[str, Make] = {
    "(a')": lambda case, folder: HandLoop(case, with_direct_kernel),
    "Fabric": lambda case, folder: HandLoop(case, with_fabric),
}
PEERS: dict[str, Make] = {
    **PLAIN,
    "(a), torch.compile(model)": lambda case, folder: HandLoop(case, with_compiled_model),
    "(a), DataLoader": lambda case, folder: HandLoop(case, with_data_loader),
    "Lightning, self.log, CSV": lambda case, folder: LightningLoop(case, folder, LoggingModule, keeps="csv"),
    "Lightning, self.log, CSV, tqdm bar": lambda case, folder: LightningLoop(
        case, folder, LoggingModule, keeps="csv", has_bar=True
    ),
    "Lightning, self.log, wandb offline": lambda case, folder: LightningLoop(
        case, folder, LoggingModule, keeps="wandb"
    ),
    "Lightning, template's module, CSV": lambda case, folder: LightningLoop(case, folder, TemplateModule, keeps="csv"),
    "ours": OurLoop,
    "ours, compiled": lambda case, folder: OurLoop(case, folder, "trainer.engine=compiled"),
    "ours, captured": lambda case, folder: OurLoop(case, folder, "trainer.engine=captured"),
    "ours, channels last": lambda case, folder: OurLoop(case, folder, "trainer.channels_last=true"),
    "ours, torch.optim": lambda case, folder: OurLoop(case, folder, f"optimizer._target_={WRAPPED[case.optimizer]}"),
    "ours, stock loop": lambda case, folder: OurLoop(case, folder, "trainer.loop=stock"),
    "ours, DataLoader": lambda case, folder: OurLoop(case, folder, "dataset.workers=0"),
    "ours, row by row": lambda case, folder: row_by_row(OurLoop(case, folder)),
}
ON_A_GPU, ON_IMAGES = ("ours, captured",), ("ours, channels last",)
# On the cases of the goals all are measured; on the others these.
FEW = (
    "(a')",
    "Lightning, self.log, CSV",
    "Lightning, template's module, CSV",
    "ours",
    "ours, compiled",
    *ON_A_GPU,
    *ON_IMAGES,
)
ALL_ON = ("tiny32", "mlp32", "mlp256", "cnn32")


def measured(case: Case, folder: Path, way: Way, *, words: Sequence[str] | None) -> dict[str, Any]:
    """What results.json keeps of a case; `words` choose its peers by a part of their name."""
    before, peers = load(), {name: make(case, folder) for name, make in peers_of(case, words).items()}
    way.tell(f"{case.name}: batch {case.batch_size}, {case.num_samples:,} samples, {len(peers)} peers")
    pairs = way.pairs(HandLoop(case, by_hand), peers)
    has_direct = "(a')" in peers and way.is_together
    return {
        "batch_size": case.batch_size,
        "micro_size": case.micro_size,
        "num_samples": case.num_samples,
        **({"is_bit_equal": bool(answered(lambda: is_bit_equal(case)))} if has_direct else {}),
        "peers": {
            name: {**way.described(), "load": {"before": before, "after": load()}, **summary(values)}
            for name, values in pairs.items()
        },
    }


def peers_of(case: Case, words: Sequence[str] | None) -> dict[str, Make]:
    """All that is compared with (a) on this case."""
    is_plain = case.num_micro_batches == 1 and case.optimizer == "sgd"
    left_out = (
        *(() if is_plain else PLAIN),
        *(() if DEVICE.type == "cuda" else ON_A_GPU),
        *(() if case.has_images else ON_IMAGES),
    )
    fit = [name for name in PEERS if name not in left_out]
    if words is None:
        return {name: PEERS[name] for name in fit if case.name in ALL_ON or name in FEW}
    return {name: PEERS[name] for name in fit if any(_names(word, name) for word in words)}


def _names(word: str, peer: str) -> bool:
    """Whether a word of the command line is a peer's name, or a part of it that is no peer's name itself."""
    return word == peer if word in PEERS else word in peer
