"""Turns iterations into rows of the log without holding them up.

An iteration leaves references to device tensors here. Every block (128 iterations, a second, or 16 MB of outputs) they
are reduced on the device and handed to the writer's thread, which alone waits for the device and makes the rows.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mbtrain.log.writer import LogWriter
from mbtrain.optim.sgd_noise import NoiseScale
from mbtrain.plan.run import Iteration
from mbtrain.training.finite import NotFinite, are_finite
from mbtrain.training.metrics import Scores, by_iteration

BLOCK_ITERATIONS, BLOCK_SECONDS, BLOCK_BYTES = 128, 1.0, 16_000_000
# (iteration, micro-batches, whether it was updated, learning rate)
Head = tuple[Iteration, int, "bool | Tensor", float]


class Means:
    """Weighted means over the epoch so far; lives in the writer's thread, read after a flush."""

    def __init__(self) -> None:
        self.sums: dict[str, tuple[float, float]] = {}

    def add(self, name: str, total: float, weight: float) -> None:
        """Take in a sum over `weight` samples."""
        old_total, old_weight = self.sums.get(name, (0.0, 0.0))
        self.sums[name] = (old_total + total, old_weight + weight)

    def values(self) -> dict[str, float]:
        """The means."""
        return {name: total / weight if weight else float("nan") for name, (total, weight) in self.sums.items()}


class Recorder:
    """Collects the iterations of a run and writes its rows; `state` and `load` carry it over a resume.

    An updated iteration whose loss is not finite, or `weights` that are not at the end of a block, are NotFinite: found
    in the writer's thread, raised in the training's at its next call to the writer.
    """

    def __init__(
        self,
        writer: LogWriter,
        scores: Scores,
        *,
        weights: Sequence[Tensor] = (),
        noise_scale: NoiseScale | None = None,
        probes: Mapping[str, Any] | None = None,
    ) -> None:
        self._writer, self._scores, self._watched, self._noise_scale = writer, scores, weights, noise_scale
        # Those that make more of their columns once these are on the host (mbtrain.probes.contract: rows).
        self._probes = probes or {}
        self._means, self._elapsed_before = Means(), 0.0
        self._started = self._last_block = time.perf_counter()
        self._is_open = False
        # Host seconds since this process started: in iterations, and of these in handing rows over.
        self.spent_s = {"iterations": 0.0, "logging": 0.0}
        self._clear()

    def begin(self) -> None:
        """The host starts an iteration now: the one before has ended."""
        now = time.perf_counter()
        if self._is_open:
            self._end(now)
        if len(self._heads) >= self._limit or (self._heads and now - self._last_block >= BLOCK_SECONDS):
            self._hand_over(now)
        self._began, self._is_open = now, True

    def add(
        self,
        head: Head,
        losses: Tensor,
        weight: float | Tensor,
        pairs: Sequence[tuple[Tensor, Tensor]],
        extra: Mapping[str, Tensor],
    ) -> None:
        """Keep what an iteration did: head is (iteration, micro-batches, updated, lr), `pairs` outputs and targets.

        `losses` [k] add up to its loss times `weight`.
        """
        self._heads.append(head)
        self._losses.append(losses)
        self._weights.append(weight)
        self._pairs += pairs
        self._num_targets.append(pairs[0][1].numel() if len(pairs) == 1 else sum(one.numel() for _, one in pairs))
        if extra:
            for name, value in extra.items():
                self._extra.setdefault(name, []).append((len(self._heads) - 1, value))
        if head[0].size != self._size:
            self._size, self._limit = head[0].size, min(self._limit, most_iterations(pairs))

    def write_epoch(self, head: Mapping[str, Any], results: Mapping[str, float], *, ends_epoch: bool) -> None:
        """Write a row of epochs.jsonl: the means of the epoch so far and the results of a validation."""
        self.end()
        elapsed = self._elapsed(time.perf_counter())

        def make_rows() -> list[dict[str, Any]]:
            means = self._means.values()
            if ends_epoch:
                self._means.sums.clear()
            return [{**head, **means, **results, "time/elapsed_s": elapsed}]

        self._writer.write("epoch", make_rows)

    def end(self) -> None:
        """Close the open iteration and hand all rows to the writer."""
        now = time.perf_counter()
        if self._is_open:
            self._end(now)
        if self._heads:
            self._hand_over(now)

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs to go on from here; the log's part of it is a promise, kept once it is on disk."""
        self.end()
        log = self._writer.mark(
            lambda: {
                "means": dict(self._means.sums),
                "probes": {name: probe.rows_state() for name, probe in self._probes.items()},
            }
        )
        return {"log": log, "elapsed_s": self._elapsed(time.perf_counter())}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self._means.sums = {name: tuple(pair) for name, pair in state["log"]["means"].items()}
        for name, memory in state["log"]["probes"].items():
            if name in self._probes:
                self._probes[name].load_rows(memory)
        self._elapsed_before = state["elapsed_s"]

    def start(self) -> None:
        """Training starts now."""
        self._started = self._last_block = time.perf_counter()

    def seconds(self) -> float:
        """Seconds of training so far, resumes included."""
        return self._elapsed(time.perf_counter())

    def _elapsed(self, now: float) -> float:
        return self._elapsed_before + now - self._started

    def _end(self, now: float) -> None:
        self._times.append((now - self._began, self._elapsed(now)))
        self.spent_s["iterations"] += now - self._began
        self._is_open = False
        if len(self._times) > len(self._heads):  # an iteration that raised left no row
            self._times.pop()

    def _clear(self) -> None:
        # Of a mini-batch in the block, and how many iterations the block may hold of what it has seen.
        self._size, self._limit = 0, BLOCK_ITERATIONS
        self._heads: list[Head] = []
        self._losses: list[Tensor] = []
        self._weights: list[float | Tensor] = []
        self._pairs: list[tuple[Tensor, Tensor]] = []
        self._num_targets: list[int] = []
        self._times: list[tuple[float, float]] = []
        self._extra: dict[str, list[tuple[int, Tensor]]] = {}

    def _hand_over(self, now: float) -> None:
        sums = by_iteration(torch.cat(self._losses), [one.numel() for one in self._losses])
        columns: dict[str, Tensor] = {"loss/sum": sums}
        # Not of the first alone: a compiled run has numbers up to four micro-batches, and tensors above.
        if any(isinstance(weight, Tensor) for weight in self._weights):
            columns["weight"] = torch.stack([torch.as_tensor(weight) for weight in self._weights])
        if isinstance(self._heads[0][2], Tensor):
            columns["updated"] = torch.stack([torch.as_tensor(updated) for _, _, updated, _ in self._heads])
        if self._watched:
            columns["are_weights_finite"] = are_finite(self._watched)[None]
        scores = self._scores.per_iteration(self._pairs, self._num_targets)
        for name, (sums, counts) in zip(self._scores.of_iteration, scores, strict=True):
            columns[f"{name}/sum"], columns[f"{name}/count"] = sums, counts
        for name, entries in self._extra.items():
            columns[f"extra/{name}"] = torch.stack([value.detach() for _, value in entries])
        places = {name: [index for index, _ in entries] for name, entries in self._extra.items()}
        heads, times, weights, slots = self._heads, self._times, self._weights, self._num_targets
        read = _to_host(columns)
        self._writer.write("iteration", lambda: self._rows(heads, times, weights, slots, read(), places))
        self._last_block = now
        self._clear()
        self.spent_s["logging"] += time.perf_counter() - now

    def _rows(
        self,
        heads: list[Head],
        times: list[tuple[float, float]],
        weights: list[float | Tensor],
        slots: list[int],
        columns: dict[str, list[float]],
        places: Mapping[str, list[int]],
    ) -> list[dict[str, Any]]:
        """The rows of a block; runs in the writer's thread."""
        weights = columns.get("weight", weights)  # pyright: ignore[reportAssignmentType]
        sums, updates = columns["loss/sum"], columns.get("updated") or [head[2] for head in heads]
        scores = [
            (f"train/{name}", columns[f"{name}/sum"], columns[f"{name}/count"]) for name in self._scores.of_iteration
        ]
        means, rows = self._means, list[dict[str, Any]]()
        for index, (iteration, num_micro_batches, _, lr) in enumerate(heads):
            total, weight, updated = sums[index], weights[index], bool(updates[index])
            loss = total / (weight or 1)
            is_finite = math.isfinite(loss)
            if self._watched and updated and not is_finite:
                raise NotFinite("a loss is", iteration.index + 1)
            row: dict[str, Any] = {
                "iteration": iteration.index + 1,
                "epoch": iteration.epoch,
                "samples_seen": iteration.samples_seen,
                "batch_size": iteration.size,
                "num_micro_batches": num_micro_batches,
                "updated": updated,
                "lr": lr,
                "train/loss": loss,
            }
            if self._noise_scale is not None:
                row["noise_scale_sgd"] = self._noise_scale(lr, iteration.size)
            # A skipped mini-batch without a loss has no part in the epoch's mean.
            if updated or is_finite:
                means.add("train/loss", total, weight)  # pyright: ignore[reportArgumentType]
            for name, totals, counts in scores:
                count = counts[index]
                row[name] = totals[index] / count if count else None
                means.add(name, totals[index], count)
                if name == "train/accuracy" and slots[index] > iteration.size:
                    row["tokens"], row["padding"] = int(count), 1 - count / slots[index]
            row["time/iteration_s"], row["time/elapsed_s"] = times[index]
            rows.append(row)
        self._put_extra(rows, columns, places)
        if not all(columns.get("are_weights_finite", ())):
            raise NotFinite("weights are", heads[-1][0].index + 1)
        return rows

    def _put_extra(
        self, rows: list[dict[str, Any]], columns: Mapping[str, list[float]], places: Mapping[str, list[int]]
    ) -> None:
        """What only some of the iterations have, and what probes make of it."""
        for name, indices in places.items():
            for index, value in zip(indices, columns[f"extra/{name}"], strict=True):
                rows[index][name] = value
        if self._probes:
            for index in sorted({index for indices in places.values() for index in indices}):
                for probe in self._probes.values():
                    rows[index] |= probe.derived(rows[index])


def most_iterations(pairs: Sequence[tuple[Tensor, Tensor]]) -> int:
    """Of a block whose iterations leave such outputs and targets."""
    held = sum(output.numel() * output.element_size() for output, _ in pairs)
    return max(1, min(BLOCK_ITERATIONS, BLOCK_BYTES // max(held, 1)))


def _to_host(columns: Mapping[str, Tensor]) -> Callable[[], dict[str, list[float]]]:
    """Start the columns' way to the host; the function returned waits for them and gives lists."""
    first = next(iter(columns.values()))
    if first.device.type != "cuda":
        return lambda: {name: values.tolist() for name, values in columns.items()}
    flat = torch.cat([values.double() for values in columns.values()])
    pinned = torch.empty(flat.shape, dtype=flat.dtype, pin_memory=True)
    pinned.copy_(flat, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()
    lengths = [len(values) for values in columns.values()]

    def read() -> dict[str, list[float]]:
        arrived.synchronize()
        return dict(zip(columns, (part.tolist() for part in pinned.split(lengths)), strict=True))

    return read
