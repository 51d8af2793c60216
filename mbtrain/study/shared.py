"""What the jobs of a sweep share: imports, and the first job's data, got ready once before any job is forked."""

import gc
import importlib
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from mbtrain.config.schema import BUILT
from mbtrain.study.jobs import Job
from mbtrain.study.pool import START_METHOD

if TYPE_CHECKING:
    from mbtrain.data.prepare import Data


class Shared:
    """Made in the process that forks the jobs. It computes with one thread: a fork leaves a pool's threads behind."""

    def __init__(self, first: Job) -> None:
        import mbtrain.one_run  # noqa: F401  (what every job needs)
        from mbtrain.training.place import threads

        _import_parts(first.config)
        self._key = _key(first.config)
        with threads(1):
            self._data = _read(first.config) if _is_shareable(first.config) else None
        gc.collect()
        gc.freeze()

    def data_of(self, job: Job) -> "Data | None":
        """The job's data, where it has the first job's; None where it has to read its own."""
        return self._data if _key(job.config) == self._key else None


def _import_parts(config: Mapping[str, Any]) -> None:
    """Import the modules of the parts that are ours; what is not there is said by the job."""
    for section in BUILT:
        module, _, _ = str(config[section]["_target_"]).rpartition(".")
        if module.startswith("mbtrain."):
            with suppress(ImportError):
                importlib.import_module(module)


def _key(config: Mapping[str, Any]) -> tuple[Any, ...]:
    """All that data depend on."""
    return config["dataset"], config["data_root"], config["trainer"]["precision"], config["trainer"]["accelerator"]


def _is_shareable(config: Mapping[str, Any]) -> bool:
    """Whether reading it here is safe: data sets of ours, in main memory; who looks for a GPU cannot fork any more."""
    from mbtrain.training.place import looks_for_gpu

    is_ours = config["dataset"]["_target_"].startswith("mbtrain.")
    return START_METHOD == "fork" and is_ours and not looks_for_gpu(config["trainer"]["accelerator"])


def _read(config: Mapping[str, Any]) -> "Data | None":
    from mbtrain.assembly import read_data

    try:
        return read_data(config)
    except Exception:
        # Each job meets it again, and says so.
        return None
