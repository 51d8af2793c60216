"""The peers of a case, measured in one run: by hand, Lightning, ours."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from timing.cases import Case
from timing.hand import (
    HandLoop,
    is_bit_equal,
    with_accumulation,
    with_compiled_model,
    with_data_loader,
    with_direct_kernel,
    with_fabric,
    with_torch_optim,
)
from timing.lightning import LightningLoop
from timing.ours import OurLoop
from timing.pairs import Peer, alternated, load, summary


def measured(case: Case, folder: Path, *, rounds: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """What results.json keeps of a case."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    tell(f"{case.name}: batch {case.batch_size}, {case.num_samples:,} samples, {rounds} rounds")
    before = load()
    by_hand = with_accumulation if case.accumulates else with_torch_optim
    pairs = alternated(HandLoop(case, by_hand), peers_of(case, folder), rounds=rounds, tell=tell)
    return {
        "batch_size": case.batch_size,
        "micro_size": case.micro_size,
        "num_samples": case.num_samples,
        "epochs": case.epochs,
        "rounds": rounds,
        "is_bit_equal": None if case.accumulates else is_bit_equal(case),
        "load": {"before": before, "after": load()},
        "peers": {name: summary(values) for name, values in pairs.items()},
    }


def peers_of(case: Case, folder: Path) -> dict[str, Peer]:
    """All that is compared with (a); under accumulation ours alone, against a hand loop that accumulates."""
    ours: dict[str, Peer] = {
        "ours": OurLoop(case, folder),
        "ours, torch.optim": OurLoop(case, folder, "optimizer._target_=timing.ours.WrappedSgd"),
        "ours, compiled": OurLoop(case, folder, "trainer.engine=compiled"),
        "ours, stock loop": OurLoop(case, folder, "trainer.loop=stock"),
    }
    if case.accumulates:
        return ours
    return {
        "(a')": HandLoop(case, with_direct_kernel),
        "(a), torch.compile(model)": HandLoop(case, with_compiled_model),
        "(a), DataLoader": HandLoop(case, with_data_loader),
        "Fabric": HandLoop(case, with_fabric),
        "Lightning, self.log, CSV": LightningLoop(case, folder, has_bar=False),
        "Lightning, self.log, CSV, tqdm bar": LightningLoop(case, folder, has_bar=True),
        **ours,
    }
