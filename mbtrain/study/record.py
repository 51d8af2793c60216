"""What a study did, as `study.json` says it: what the analysis reads, and what whoever doubts it needs."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from mbtrain.log.provenance import git_state, versions
from mbtrain.study.course import Course
from mbtrain.study.design import Design
from mbtrain.study.jobs import Job
from mbtrain.study.rounds import Searches
from mbtrain.study.setting import Setting
from mbtrain.study.tuning import Search

PACKAGES = ("mbtrain", "torch", "pytorch-lightning", "numpy", "scipy")


class Record:
    """The design, with what was timed, tuned and run of it."""

    def __init__(
        self,
        design: Design,
        courses: Mapping[str, Course],
        searches: Searches,
        runs: Mapping[Setting, Sequence[Job]],
        command: str,
    ) -> None:
        self._design, self._courses, self._command = design, courses, command
        self._searches, self._runs = searches, runs

    def content(self) -> dict[str, Any]:
        """What is written."""
        design = self._design
        return {
            "question": design.question,
            "name": design.name,
            "scale": design.scale,
            "command": self._command,
            "git": git_state(),
            "versions": versions(PACKAGES),
            "cores": os.cpu_count(),
            "budget": design.budget,
            "rate_of": design.rate_of,
            **(self._race() if design.target is None else {"target": design.target}),
            "columns": design.columns,
            "limits": design.limits,
            "cases": {
                name: {"overrides": one.case.overrides, "schedule": one.schedule}
                | (self._raced(one) if design.target is None else {"arms": self._to_target(one)})
                for name, one in self._courses.items()
            },
        }

    def _race(self) -> dict[str, Any]:
        """What is compared with what."""
        design = self._design
        contrasts = [*filter(None, [design.primary]), *design.contrasts]
        return {
            "budgets": [design.budget, *(one for one in design.also if one != design.budget)],
            "margin": design.margin,
            "reference": design.reference,
            "primary": design.primary,
            "contrasts": contrasts,
            "times": design.times,
        }

    def _raced(self, course: Course) -> dict[str, Any]:
        """A case whose arms were run for a budget."""
        main = course.main()
        tuned = {arm: self._searches[one] for arm, one in main.items() if one in self._searches}
        return {
            "batch_sizes": course.sizes,
            "durations": {arm: one.duration for arm, one in main.items()},
            "seconds_per_iteration": {arm: pace.rounds for arm, pace in course.paces.items()},
            "is_steady": all(pace.is_steady for pace in course.paces.values()),
            "rates": {arm: one.best_rate for arm, one in tuned.items()},
            "is_inside": {arm: one.is_inside for arm, one in tuned.items()},
            "tuning": {arm: tried(one) for arm, one in tuned.items()},
            "runs": {arm: self._folders(one) for arm, one in main.items()},
            "also": {
                budget: {arm: self._folders(one) for arm, one in own.items()}
                for budget, own in course.further().items()
            },
        }

    def _to_target(self, course: Course) -> dict[str, Any]:
        """A case whose arms ran to a target: under a constant rate at one length, else at those around it."""
        found: dict[str, Any] = {}
        for arm, size in course.sizes.items():
            pace = course.paces.get(arm)
            own = {one: jobs for one, jobs in self._runs.items() if one.key == (course.case.name, arm)}
            found[arm] = {
                "batch_size": size,
                "seconds_per_iteration": [] if pace is None else pace.rounds,
                "lengths": {one.duration[:-2]: self._at(one) for one in own},
            }
        return found

    def _at(self, setting: Setting) -> dict[str, Any]:
        search = self._searches.get(setting)
        if search is None:
            # It takes the rate of another arm.
            other = self._design.rate_of[setting.arm]
            search = self._searches[self._courses[setting.case.name].main()[other]]
        return {
            "rate": search.best_rate,
            "is_inside": search.is_inside,
            "tuning": tried(search),
            "runs": self._folders(setting),
        }

    def _folders(self, setting: Setting) -> list[str]:
        return [f"run/{job.name}" for job in self._runs[setting]]


def tried(search: Search) -> list[list[float]]:
    """Each learning rate with its score: the mean of its runs and a standard error."""
    return [[search.rate(step), score] for step, score in sorted(search.scores.items())]
