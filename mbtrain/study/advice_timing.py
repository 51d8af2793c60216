"""Times every way to make an update, in rounds that take each in turn; what it finds is `timing.json`."""

import copy
import shutil
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from mbtrain.analysis.accumulation import has_settled
from mbtrain.log import files
from mbtrain.plan.refused import Refused
from mbtrain.study.advice_ways import Cut, batch_sizes, cuts, timing_config

if TYPE_CHECKING:
    from mbtrain.data.prepare import Data
    from mbtrain.timed_run import Pass, Timed

FILE = "timing.json"
# Rounds of all ways, rounds more of those that have not settled, and iterations of a first one, which only says how
# long the others take.
ROUNDS, MORE_ROUNDS, FIRST = 5, 10, 6
# Iterations that a round times of one way.
FEWEST, MOST = 3, 500
# The share of what is free on the host that one micro-batch may keep for its backward pass.
SHARE_OF_MEMORY = 0.5


class Timing:
    """The candidates, what was measured of each, and what was left out with a word why."""

    def __init__(
        self, base: Mapping[str, Any], sizes: Sequence[int] | None, *, seconds: float, path: Path, data: "Data"
    ) -> None:
        self._base, self._path, self._seconds = base, path, seconds
        # Neither is read here, and both would be evaluated at the end of each run.
        self._data = replace(data, validation=None, test=None)
        self.num_samples = len(data.train)
        self._sizes = _sizes(base, sizes, self.num_samples)
        self._passes: dict[int, Pass] = {}
        self.dropped: dict[Cut, str] = {}
        self.times: dict[Cut, list[Timed]] = {}

    def measure(self, console: Console) -> None:
        """Everything, with a bar where somebody looks."""
        self._look_at_memory()
        with _bar(console) as advance:
            lengths = self._first_round(advance)
            self.times = {cut: [] for cut in lengths}
            for number in range(ROUNDS):
                for cut in list(lengths)[:: 1 if number % 2 == 0 else -1]:
                    self._add_round(cut, lengths[cut])
                    advance(1 / (ROUNDS + 1) / len(lengths))
            self._add_rounds(lengths, until=time.monotonic() + self._seconds)

    def _add_rounds(self, lengths: Mapping[Cut, int], *, until: float) -> None:
        """More rounds of the ways whose fastest ones do not agree yet."""
        for _ in range(MORE_ROUNDS):
            for cut in [cut for cut in lengths if not self._has_settled(cut)]:
                if time.monotonic() < until:
                    self._add_round(cut, lengths[cut])

    def _add_round(self, cut: Cut, iterations: int) -> None:
        timed = self._timed(cut, iterations)
        if timed is not None:
            self.times[cut].append(timed)

    def _has_settled(self, cut: Cut) -> bool:
        first, times = self._passes[min(self._passes)], self.times[cut]
        is_alone = first.device == "cpu" and first.threads == 1 and not first.workers
        return has_settled([one.cpu_seconds if is_alone else one.seconds for one in times])

    def content(self) -> dict[str, Any]:
        """What timing.json says; bytes and seconds."""
        first = self._passes[min(self._passes)]
        return {
            "num_samples": self.num_samples,
            "device": first.device,
            "threads": first.threads,
            "workers": first.workers,
            "has_batch_norm": first.has_batch_norm,
            "kept_bytes": {str(size): one.kept_bytes for size, one in sorted(self._passes.items())},
            "ways": [_told(cut, times) for cut, times in self.times.items() if times],
            "dropped": [{**cut._asdict(), "reason": reason} for cut, reason in self.dropped.items()],
        }

    def _look_at_memory(self) -> None:
        """What each micro size keeps; on the host, where no error would come in time, too large ones are left out."""
        from mbtrain.data.memory import free_bytes
        from mbtrain.timed_run import first_pass

        for size in self._sizes:
            if self._passes:
                largest, known = max(self._passes.items())
                # On a GPU its own counter tells, and its allocator says when it is enough.
                is_enough = known.kept_bytes * size / largest > SHARE_OF_MEMORY * free_bytes(_cpu())
                if known.device != "cpu" or is_enough:
                    return
            config = timing_config(self._base, Cut(size, size), iterations=1, run_dir="")
            self._passes[size] = first_pass(config, data=self._data)

    def _cuts(self) -> Iterator[Cut]:
        is_host = self._passes[min(self._passes)].device == "cpu"
        has_bn = self._passes[min(self._passes)].has_batch_norm
        group_size = self._base["batch_norm"]["group_size"] if has_bn else None
        for cut in cuts(self._sizes, group_size):
            if is_host and cut.micro_size not in self._passes:
                self.dropped[cut] = "a micro-batch would keep more than half of the free memory"
            else:
                yield cut

    def _first_round(self, advance: Any) -> dict[Cut, int]:
        """Iterations that a round times of each way; larger sizes are left out once the first round takes too long."""
        found: dict[Cut, float] = {}
        spent = 0.0
        waiting = list(self._cuts())
        for cut in waiting:
            if spent > self._seconds:
                self.dropped[cut] = f"one round over the smaller sizes took {spent:.0f} s: raise study.seconds"
                continue
            timed = self._timed(cut, FIRST - 2)
            advance(1 / (ROUNDS + 1) / len(waiting))
            if timed is None:
                self.dropped[cut] = "out of memory"
            else:
                found[cut] = timed.seconds
                spent += FIRST * timed.seconds
        share = self._seconds / ROUNDS / max(1, len(found))
        return {cut: min(MOST, max(FEWEST, int(share / seconds))) for cut, seconds in found.items()}

    def _timed(self, cut: Cut, iterations: int) -> "Timed | None":
        from mbtrain.timed_run import timed_run

        warm_up, folder = max(1, iterations // 5), self._path / "timing"
        shutil.rmtree(folder, ignore_errors=True)
        config = timing_config(self._base, cut, iterations=warm_up + iterations + 1, run_dir=str(folder / cut.name))
        try:
            return timed_run(copy.deepcopy(config), warm_up=warm_up, data=self._data)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def write_timing(
    base: Mapping[str, Any], sizes: Sequence[int] | None, seconds: float, path: Path, data: "Data | None"
) -> None:
    """Measure, and write timing.json; in a process of its own, which ends with 2 where it is refused."""
    from mbtrain.assembly import read_data
    from mbtrain.training.signals import Interrupted

    console = Console(stderr=True)
    try:
        timing = Timing(base, sizes, seconds=seconds, path=path, data=read_data(base) if data is None else data)
        timing.measure(console)
    except Refused as error:
        console.print(f"mbtrain: {error}", highlight=False, markup=False, soft_wrap=True)
        raise SystemExit(2) from None
    except Interrupted as error:
        raise SystemExit(error.exit_code) from None
    files.replace(path / FILE, orjson.dumps(timing.content(), option=orjson.OPT_INDENT_2))


def _sizes(base: Mapping[str, Any], wanted: Sequence[int] | None, num_samples: int) -> list[int]:
    if wanted is None:
        return batch_sizes(base["batch"]["size"], num_samples)
    too_large = [size for size in wanted if size > num_samples]
    if too_large:
        raise Refused(f"study.sizes={too_large[0]}: there are {num_samples:,} training samples: give at most that")
    return sorted(set(wanted))


def _told(cut: Cut, times: Sequence["Timed"]) -> dict[str, Any]:
    columns = {name: [asdict(one)[name] for one in times] for name in ("seconds", "cpu_seconds")}
    return {**cut._asdict(), **columns, "peak_bytes": statistics.median(one.peak_bytes for one in times)}


def _cpu() -> Any:
    import torch

    return torch.device("cpu")


@contextmanager
def _bar(console: Console) -> Iterator[Any]:
    """A bar of the share that is done; nothing where nobody looks."""
    columns = (TextColumn("timing whole updates"), BarColumn(bar_width=20), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=1.0)
        yield lambda share: progress.advance(task, share)
