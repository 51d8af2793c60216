"""What `_target_` may name: the rule that stands before every import of code that a config names.

Trusted are torch.nn, torch.optim, the building blocks of mbtrain and Lightning's callbacks, each where it belongs, and
the packages that the user lists in `trust` on the command line or in a primary config.
"""

import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mbtrain.config.shown import shown
from mbtrain.plan.refused import Refused

# By the first word of the key: a model cannot be a data set's downloader, nor a tracker a model.
TRUSTED = {
    "dataset": ("mbtrain.data", "torch.utils.data.dataset"),
    "sampler": ("mbtrain.plan",),
    "model": ("mbtrain.models", "torch.nn"),
    "loss": ("mbtrain.losses", "torch.nn"),
    "optimizer": ("torch.optim",),
    "lr_schedule": ("mbtrain.plan",),
    "batch_schedule": ("mbtrain.plan",),
    "scaling": ("mbtrain.plan",),
    "probe": ("mbtrain.probes",),
    "tracker": ("mbtrain.trackers",),
    "trainer": ("pytorch_lightning.callbacks", "pytorch_lightning.profilers"),
    "hydra": ("hydra._internal", "hydra.core", "hydra_plugins"),
}
PACKAGE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


def refuse_untrusted(target: object, *, key: str, trust: Sequence[str] = ()) -> None:
    """Refuse a name that is not within a trusted package; nothing is imported.

    >>> refuse_untrusted("torch.nn.Linear", key="model")
    >>> refuse_untrusted("os.system", key="model")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    mbtrain.plan.refused.Refused: ...
    """
    if not isinstance(target, str) or not PACKAGE.fullmatch(target) or "." not in target:
        raise Refused(
            f"{key}._target_={shown(target)}: is not the name of a class, such as my_data.Mine with trust=[my_data]"
        )
    if is_within(target, trust):
        return
    if is_within(target, TRUSTED.get(key.split(".")[0], ())) and not _has_private_part(target, key):
        return
    package = target.split(".")[0]
    if package in {"torch", "mbtrain", "pytorch_lightning"}:
        at_hand = " or ".join(TRUSTED.get(key.split(".")[0], ())) or "nothing"
        raise Refused(
            f"{key}._target_={target}: is not trusted here, where {at_hand} is; or trust=[PACKAGE] of your own"
        )
    if package in sys.stdlib_module_names:
        cure = "only packages of yours can be, by trust=[PACKAGE]"
    else:
        cure = f"if it is yours, say so on the command line: trust=[{package}]"
    raise Refused(f"{key}._target_={target}: {package} is not trusted to run code; {cure}")


def refuse_unfit(found: Any, target: str, *, key: str, trust: Sequence[str] = ()) -> None:
    """Refuse what a trusted name led to, unless it is a class or function that was defined in a trusted package itself.

    Of ours a function must bear its module's name, or be a loss: the others reach files and network for their module.
    """
    module = str(getattr(found, "__module__", None))
    is_named_as_its_module = module.rsplit(".", 1)[-1] == getattr(found, "__name__", None)
    built_in = TRUSTED.get(key.split(".")[0], ())
    if inspect.isclass(found) or inspect.isfunction(found):
        if is_within(f"{module}.", trust):
            return
        is_maker = inspect.isclass(found) or is_named_as_its_module or key == "loss"
        if is_maker and is_within(f"{module}.", built_in):
            return
    where = target.split(".")[0]
    raise Refused(
        f"{key}._target_={target}: is not a class or function that {where} offers here; "
        "for code of your own give trust=[PACKAGE]"
    )


def is_within(name: str, packages: Sequence[str]) -> bool:
    """Whether a dotted name lies below one of `packages`."""
    return any(name.startswith(f"{package}.") for package in packages)


def targets(node: Any, key: str = "") -> Iterator[tuple[str, object]]:
    """Every (key, `_target_`) in a config, however deep.

    >>> list(targets({"model": {"_target_": "a.B", "part": [{"_target_": "c.D"}]}}))
    [('model', 'a.B'), ('model.part[0]', 'c.D')]
    """
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield key, node["_target_"]
        for name, value in node.items():
            yield from targets(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from targets(value, f"{key}[{index}]")


def _has_private_part(target: str, key: str) -> bool:
    return not key.startswith("hydra") and any(part.startswith("_") for part in target.split("."))
