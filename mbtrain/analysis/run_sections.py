"""The sections about one run: loss, rates, validation, what probes logged, where the time went, the config."""

import math
from collections.abc import Mapping
from typing import Any

from mbtrain.analysis import probe_sections
from mbtrain.analysis.charts import Panel
from mbtrain.analysis.curves import Logs, over_axes
from mbtrain.analysis.experiment import text
from mbtrain.analysis.runs import Run
from mbtrain.analysis.score import written
from mbtrain.analysis.section import Section
from mbtrain.analysis.table import Table, Value, number, percent, word
from mbtrain.analysis.thinned import ThinnedLog

# Columns that every run has; any further one comes from a probe.
OWN = {"iteration", "epoch", "samples_seen", "batch_size", "num_micro_batches", "updated", "lr", "noise_scale_sgd"}
THINNED = "Line: mean of each stretch of iterations; band: its lowest and highest value."


def sections(run: Run, logs: Logs) -> list[Section]:
    """Everything that is told of a single run."""
    iterations, epochs = logs.iterations(run), logs.epochs(run)
    parts = [_training(iterations), _validation(epochs), _rates(run, iterations)]
    parts += [*probe_sections.sections(iterations), _probed(iterations)]
    parts += [_time(run, iterations), config(run.config), _result(run)]
    return [one for one in parts if one.panels or one.tables]


def config(values: Mapping[str, Any], title: str = "Config") -> Section:
    """Keys and values of a config."""
    rows = [[word(key), word(text(value))] for key, value in values.items()]
    return Section(title, tables=[Table(["key", "value"], rows)] if rows else [], is_folded=True)


def _training(log: ThinnedLog) -> Section:
    names = [name for name in log.columns if name.startswith("train/")]
    told = []
    loss = log.columns.get("train/loss")
    if loss is not None and loss.num_nonfinite:
        told.append(f"The training loss was not finite in {loss.num_nonfinite:,} iterations.")
    if log.num_rows and "updated" in log.columns:
        skipped = log.num_rows - round(log.columns["updated"].total)
        told += [f"The update was skipped in {skipped:,} of {log.num_rows:,} iterations."] if skipped else []
    return Section("Training", told, _panels(names, log))


def _validation(log: ThinnedLog) -> Section:
    names = [name for name in log.columns if name.startswith("val/")]
    return Section("Validation", (), _panels(names, log))


def _rates(run: Run, log: ThinnedLog) -> Section:
    """Learning rate and batch size; one that never moved is said, not drawn."""
    told, moving = [], []
    for name, spoken in (("lr", "Learning rate"), ("batch_size", "Batch size"), ("num_micro_batches", "Micro-batches")):
        if name in log.columns and log.num_rows:
            low, high = float(_least(log, name)), float(_most(log, name))
            if low == high:
                told.append(f"{spoken}: {written(low)} throughout.")
            elif name == "batch_size" and _is_of_one_size(run) and _only_tail_differs(log):
                told.append(f"{spoken}: {written(high)}, {written(low)} in the last one of an epoch.")
            else:
                moving.append(name)
    if moving and "noise_scale_sgd" in log.columns:
        moving.append("noise_scale_sgd")
    panels = _panels([*moving, *(["lr", "batch_size"] if not moving else [])], log)
    return Section("Learning rate and batch size", told, panels)


def _probed(log: ThinnedLog) -> Section:
    names = [name for name in log.columns if name not in OWN and not name.startswith(("train/", "time/"))]
    further = [name for name in names if not probe_sections.is_told(name)]
    return Section("What probes logged", (), _panels(further, log))


def _time(run: Run, log: ThinnedLog) -> Section:
    """Seconds by what they were spent on."""
    seconds = run.result.get("seconds", log.last.get("time/elapsed_s"))
    inside = log.columns.get("time/iteration_s")
    if not isinstance(seconds, int | float) or inside is None or not seconds > 0:
        return Section("Time")
    split = {"iterations": inside.total}
    split["validation, checkpoints, start and end"] = max(0.0, seconds - inside.total)
    rows = [
        [word(name), number(part), Value(percent(part / seconds), part / seconds, part / seconds)]
        for name, part in split.items()
    ]
    speed = f"One iteration took {1000 * inside.total / max(1, log.num_rows):.3g} ms on average."
    return Section("Time", [speed], _panels(["time/iteration_s"], log), [Table(["part", "seconds", "share"], rows)])


def _result(run: Run) -> Section:
    values = {key: value for key, value in run.result.items() if not isinstance(value, dict | list)}
    rows = [
        [word(key), number(float(value)) if _is_number(value) else word(text(value))] for key, value in values.items()
    ]
    return Section("Result", tables=[Table(["name", "value"], rows)] if rows else [], is_folded=True)


def _panels(names: list[str], log: ThinnedLog) -> list[Panel]:
    made = [over_axes(_file(name), name, name, [(name, [log])], THINNED) for name in names]
    return [one for one in made if one.charts]


def _file(name: str) -> str:
    """A name of a file, whatever the column's name holds.

    >>> _file("train/grad norm")
    'train-grad-norm'
    """
    return "".join(one if one.isalnum() or one in "-_" else "-" for one in name)[:60]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_of_one_size(run: Run) -> bool:
    """Whether nothing but an epoch's end changes the batch size."""
    schedule = str(run.config.get("batch_schedule._target_", "Constant"))
    return schedule.rsplit(".", 1)[-1] == "Constant"


def _only_tail_differs(log: ThinnedLog) -> bool:
    """Whether the mean batch size is so near the largest that only an epoch's last mini-batch can be smaller."""
    return bool(log.columns["batch_size"].total > 0.95 * _most(log, "batch_size") * log.num_rows)


def _least(log: ThinnedLog, name: str) -> float:
    return min(log.points(name, "iteration")[2], default=math.nan)


def _most(log: ThinnedLog, name: str) -> float:
    return max(log.points(name, "iteration")[3], default=math.nan)
