"""The order and the plan that a config names, once the data are known."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from mbtrain.config.build import build
from mbtrain.config.schedules import batch_schedule_of
from mbtrain.core.random import mix
from mbtrain.data.loader import Order
from mbtrain.data.prepare import Data
from mbtrain.plan.batch_schedule import names_read
from mbtrain.plan.duration import Duration
from mbtrain.plan.order import Indices, checked
from mbtrain.plan.refused import Refused
from mbtrain.plan.run import RunPlan
from mbtrain.plan.token_mini_batches import TokenLimit

ORDER_STREAM = 7


@dataclass(frozen=True)
class CheckedOrder:
    """The order of each epoch, looked over before it is used."""

    draw: Order
    num_samples: int
    length: int

    def __call__(self, epoch: int) -> Indices:
        """Indices [length] of `epoch`; raises Refused where they are none."""
        return checked(self.draw(epoch), num_samples=self.num_samples, length=self.length, epoch=epoch)

    @property
    def is_ours(self) -> bool:
        """Whether it draws from generators of its own: a user's may seed torch's, which an iteration draws from."""
        return type(self.draw).__module__.startswith("mbtrain.")


def order_and_plan(config: Mapping[str, Any], data: Data) -> tuple[Order, RunPlan]:
    """The order of every epoch's samples, and the plan of the run; raises Refused."""
    num_samples = len(data.train)
    offered = {
        "num_samples": num_samples,
        "seed": mix(config["seed"], ORDER_STREAM),
        "labels": data.columns.get("labels"),
        "lengths": data.columns.get("lengths"),
        "columns": data.columns,
        "indices": data.train.indices,
    }
    draw = build(config["sampler"], key="sampler", trust=config["trust"], offered=offered)
    length = len(checked(draw(0), num_samples=num_samples, length=None, epoch=0))
    order = CheckedOrder(draw, num_samples, length)
    tokens = _token_limit(config["batch"]["max_tokens"], data.columns.get("lengths"), order)
    plan = plan_of(config, num_samples=length, tokens=tokens)
    _refuse_unread(plan, data)
    return order, plan


def _token_limit(most: int | None, lengths: NDArray[Any] | None, order: Order) -> TokenLimit | None:
    """`batch.max_tokens` with the lengths that it counts; Refused where there are none, or a sample is longer."""
    if most is None:
        return None
    if lengths is None:
        raise Refused(
            f"batch.max_tokens={most}: needs a length for each sample, and the data set gives none: "
            "leave it out, or give your Dataset an attribute lengths"
        )
    if (longest := int(lengths.max())) > most:
        raise Refused(f"batch.max_tokens={most}: the longest sample has {longest} tokens: give at least {longest}")
    return TokenLimit(most, lambda epoch: lengths[order(epoch)].tolist())


def plan_of(config: Mapping[str, Any], *, num_samples: int, tokens: TokenLimit | None) -> RunPlan:
    """The plan of the run that `config` names, on epochs of so many samples."""
    batch = config["batch"]
    return RunPlan(
        num_samples=num_samples,
        batch_size=batch["size"],
        duration=Duration.parse(config["duration"]),
        drop_last=batch["drop_last"],
        schedule=batch_schedule_of(config, size=num_samples if batch["size"] == "all" else batch["size"]),
        tokens=tokens,
    )


def _refuse_unread(plan: RunPlan, data: Data) -> None:
    validated = [one for one in names_read(plan.schedule) if one.startswith("val/")]
    if validated and data.validation is None:
        raise Refused(f"batch_schedule.reads={validated[0]}: there is no validation set, give dataset.val_fraction=0.1")
