"""The folder of a sweep: `sweep.json`, a folder a job with its status, one sweep at a time."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from mbtrain.config.check import Faults
from mbtrain.log.files import replace
from mbtrain.log.lock import locked
from mbtrain.log.status import process_lives, read_status, write_status
from mbtrain.plan.refused import Refused
from mbtrain.run_folder import RunFolder
from mbtrain.study.jobs import Job, names_job

FILE = "sweep.json"
# How the status of a job begins that was refused.
_REFUSED = "Refused: "


class SweepFolder:
    """A sweep's folder under its rules: what is done stays, what was cut goes on, nothing is mixed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.path.resolve().name

    def admit(self, jobs: Iterable[Job]) -> None:
        """Refuse, a line each, jobs whose folders hold another run, or one that a process is training now."""
        faults: dict[str, None] = {}
        for job in jobs:
            try:
                RunFolder(job.folder).admit(job.config)
                status = read_status(job.folder)
                if status is not None and status["status"] == "running" and process_lives(status["pid"]):
                    with locked(job.folder):
                        pass
            except Refused as error:
                faults |= dict.fromkeys(str(error).splitlines())
        if faults:
            raise Faults(faults)

    @contextmanager
    def held(self, *, key: str = "sweep_dir") -> Iterator[None]:
        """The folder exists and is this process's for the length of a block."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Refused(f"{key}={self.path}: cannot be made ({error.strerror})") from None
        with locked(self.path, key=key):
            yield

    def write(self, jobs: Sequence[Job], overrides: Sequence[str]) -> list[str]:
        """Write what the sweep is, the jobs that an earlier, other command had here too; the keys that vary."""
        file = self.path / FILE
        kept = orjson.loads(file.read_bytes())["jobs"] if file.is_file() else []
        known = {one["folder"] for one in kept}
        all_jobs = kept + [
            {"folder": one.name, "overrides": list(one.overrides)} for one in jobs if one.name not in known
        ]
        varied = factors([one["overrides"] for one in all_jobs])
        content = {
            "version": 1,
            "name": self.name,
            "overrides": list(overrides),
            "factors": varied,
            "jobs": all_jobs,
        }
        replace(file, orjson.dumps(content, option=orjson.OPT_INDENT_2))
        return varied

    def remaining(self, jobs: Iterable[Job], *, retries_failed: bool) -> list[Job]:
        """The jobs to run: neither done nor, unless asked for or they were refused, failed; now they are waiting."""
        left = [
            job
            for job in jobs
            if not is_done(job) and (retries_failed or state_of(job) != "failed" or refusal_of(job) is not None)
        ]
        for job in left:
            job.folder.mkdir(exist_ok=True)
            write_status(job.folder, "waiting")
        return left


def state_of(job: Job) -> str:
    """What a job's folder says of it; one that nobody began is waiting."""
    status = read_status(job.folder)
    return "waiting" if status is None else status["status"]


def refusal_of(job: Job) -> str | None:
    """Why a job was refused before it trained, as where it asks for a GPU and there is none; None for any other."""
    status = read_status(job.folder)
    said = status["message"] if status is not None and status["status"] == "failed" else None
    return said.removeprefix(_REFUSED) if said and said.startswith(_REFUSED) else None


def is_done(job: Job) -> bool:
    """It has its result, at the length that is asked for."""
    folder = RunFolder(job.folder)
    return folder.finished() is not None and folder.saved_config()["duration"] == job.config["duration"]


def result_of(job: Job) -> Mapping[str, Any]:
    """What a job that is done came to; empty for any other."""
    return RunFolder(job.folder).finished() or {}


def factors(jobs: Sequence[Sequence[str]]) -> list[str]:
    """The keys of the training that vary over jobs, each given by its overrides.

    >>> factors([["seed=0", "batch.size=32"], ["seed=1", "batch.size=32"]])
    ['seed']
    """
    tables = [dict(assignment(one) for one in job) for job in jobs]
    keys = dict.fromkeys(key for table in tables for key in table if names_job(key))
    return [key for key in keys if len({table.get(key) for table in tables}) > 1]


def assignment(override: str) -> tuple[str, str]:
    """Key and value of an override.

    >>> assignment("+model.width=3")
    ('model.width', '3')
    """
    key, _, value = override.lstrip("+~").partition("=")
    return key, value
