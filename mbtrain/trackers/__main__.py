"""The side process: `python -m mbtrain.trackers RUN [NAME...]` hands a run's log to trackers until the run is over.

With `--sweep`, RUN is a sweep's folder: its jobs are handed over one after the other, in the order in which they began.
"""

import argparse
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import orjson
import yaml
from filelock import FileLock, Timeout

from mbtrain.log.reader import follow
from mbtrain.log.status import FINAL, is_over, process_lives, read_status
from mbtrain.plan.refused import Refused
from mbtrain.trackers import missing
from mbtrain.trackers.guarded import Guarded
from mbtrain.trackers.jobs import jobs_of, jobs_told
from mbtrain.trackers.states import keep_in_result

OURS = ("csv", "tensorboard", "trackio", "wandb")


def main(argv: Sequence[str] | None = None) -> int:
    """Follow or replay a run. 0: every tracker has all of it; 1: a tracker failed; 2: refused."""
    options = _parser().parse_args(argv)
    try:
        if options.wait is not None:
            _outlive_the_trainer()
            _import_ahead(options.names)
        if options.sweep:
            jobs = jobs_told() if options.wait is not None else jobs_of(options.run)
            return max((_track_job(*job, options.names, trust=options.trust) for job in jobs), default=0)
        if options.wait is not None and not _has_begun(options.run, trainer=options.wait):
            return 0
        return _track(options.run, options.names, trust=options.trust)
    except (Refused, ValueError) as error:
        print(f"mbtrain: {error}", file=sys.stderr)
        return 2 if isinstance(error, Refused) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mbtrain.trackers", description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="the run's folder, finished or not")
    parser.add_argument("names", nargs="*", metavar="NAME", help="trackers (default: those of the run's config)")
    parser.add_argument("--sweep", action="store_true", help="RUN is the folder of a sweep")
    parser.add_argument("--trust", action="append", default=[], metavar="PACKAGE", help="its code may be a tracker")
    parser.add_argument("--wait", type=int, metavar="PID", help="the trainer that started this: wait until it begins")
    return parser


def _track(run_dir: Path, names: Sequence[str], *, trust: Sequence[str]) -> int:
    config = _read_yaml(run_dir / "config.yaml")
    if config is None:
        raise Refused(f"{run_dir} is not the folder of a run: it has no config.yaml")
    nodes = {name: _node(config, name) for name in names or config["tracker"]}
    with ExitStack() as locks:
        for name in sorted(nodes):
            locks.enter_context(_lock(run_dir, name))
        trackers = [_guarded(name, node, run_dir=run_dir, config=config, trust=trust) for name, node in nodes.items()]
        _hand_over(run_dir, trackers)
    return int(any(tracker.has_failed for tracker in trackers))


def _track_job(job: Path, trainer: int | None, names: Sequence[str], *, trust: Sequence[str]) -> int:
    """One run of a sweep; what goes wrong with it does not keep the others from their trackers."""
    try:
        if trainer is not None and not _begins(job, trainer, threading.Event()):
            return 0
        return _track(job, names, trust=trust)
    except Exception as error:
        print(f"mbtrain: {job}: {error}", file=sys.stderr)
        return 1


def _hand_over(run_dir: Path, trackers: Sequence[Guarded]) -> None:
    for kind, row in follow(run_dir, is_over=_end_of(run_dir, trackers)):
        for tracker in trackers:
            tracker(kind, row)
    status = read_status(run_dir)
    # A run that says "running" and is over was killed, or had nobody to say it.
    outcome = status["status"] if status is not None and status["status"] in FINAL else "failed"
    file = run_dir / "result.json"
    result = orjson.loads(file.read_bytes()) if file.exists() else None
    for tracker in trackers:
        tracker.close(outcome, result)
    keep_in_result(run_dir)


def _end_of(run_dir: Path, trackers: Sequence[Guarded]) -> Callable[[], bool]:
    """Asked at every look at the log, which is also the moment to say how far each tracker is."""
    first = read_status(run_dir)

    def is_at_end() -> bool:
        for tracker in trackers:
            tracker.save()
        status = read_status(run_dir)
        # Another process goes on with the run: its own side process takes over.
        was_resumed = status is not None and first is not None and status["pid"] != first["pid"]
        return status is None or was_resumed or is_over(run_dir) or all(tracker.has_failed for tracker in trackers)

    return is_at_end


def _guarded(
    name: str, node: dict[str, Any], *, run_dir: Path, config: dict[str, Any], trust: Sequence[str]
) -> Guarded:
    def make() -> Any:
        if (line := missing(name)) is not None and node["_target_"].startswith("mbtrain."):
            raise Refused(line)
        from mbtrain.config.build import build

        # The jobs of a sweep share a name; their folders tell them apart.
        is_job = (run_dir.parent / "sweep.json").is_file()
        offered = {"run_dir": str(run_dir), "name": run_dir.name if is_job else config["name"], "config": config}
        return build(node, key=f"tracker.{name}", trust=trust, offered=offered)

    return Guarded(name, run_dir, make)


def _node(config: dict[str, Any], name: str) -> dict[str, Any]:
    """The tracker's options in the run's config; one that the run did not have gets those that are shipped."""
    if name in config["tracker"]:
        return config["tracker"][name]
    package = Path(__file__).parents[1]
    # In the wheel conf lies inside the package, in a checkout beside it.
    for folder in (package / "conf", package.parent / "conf"):
        if name in OURS and (node := _read_yaml(folder / "tracker" / f"{name}.yaml")) is not None:
            return node
    known = sorted({*OURS, *config["tracker"]})
    raise Refused(f"{name} is no tracker: choose from {', '.join(known)}")


def _lock(run_dir: Path, name: str) -> FileLock:
    """One process a tracker: the side process of a run that died may still be reading while the next one starts."""
    folder = run_dir / "trackers"
    folder.mkdir(exist_ok=True)
    lock = FileLock(folder / f".{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"mbtrain: another process hands this run to {name}: waiting until it ends", file=sys.stderr)
        lock.acquire()
    return lock


def _outlive_the_trainer() -> None:
    # Ctrl-C and a scheduler's SIGTERM go to the whole group. The trainer decides; this process reads to the end.
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)


def _import_ahead(names: Sequence[str]) -> None:
    """Import our own trackers beside the trainer's start-up; what fails here is said when they are built."""
    for name in names:
        if name in OURS and missing(name) is None:
            importlib.import_module(f"mbtrain.trackers.{name}")


def _has_begun(run_dir: Path, *, trainer: int) -> bool:
    """Wait until the trainer has left its config and said in `status.json` that it runs; False if it ended without.

    A folder that is resumed has the state of an earlier process: hence its number. The trainer's end is also the end of
    our stdin, where that is a pipe.
    """
    left = threading.Event()
    threading.Thread(target=_set_at_end_of_input, args=(left,), daemon=True).start()
    return _begins(run_dir, trainer, left)


def _begins(run_dir: Path, trainer: int, left: threading.Event) -> bool:
    while True:
        status = read_status(run_dir)
        is_its = status is not None and status["pid"] == trainer
        has_left = left.is_set() or not process_lives(trainer)
        if is_its and (run_dir / "config.yaml").exists():
            return True
        if has_left:
            return False
        time.sleep(0.05)


def _set_at_end_of_input(left: threading.Event) -> None:
    try:
        while os.read(0, 4096):
            pass
    except OSError:
        pass
    left.set()


def _read_yaml(path: Path) -> dict[str, Any] | None:
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


if __name__ == "__main__":
    code = main()
    if code:
        # What a failed tracker's package would still do at exit fails too, with a page of its own words.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
