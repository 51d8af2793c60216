"""The rounds of tuning: what some setting's grid lacks is run for all that lack it, until none does."""

from collections.abc import Iterable, Mapping, Sequence

from mbtrain.study.course import Course
from mbtrain.study.design import Design, Target
from mbtrain.study.jobs import Job
from mbtrain.study.lengths import samples
from mbtrain.study.setting import Setting
from mbtrain.study.stages import Stages
from mbtrain.study.trials import Trials
from mbtrain.study.tuning import Search, loss_of, samples_to

# A length is doubled, or halved, at most so often on the way to a target.
MOST_LENGTHS = 6
# A length counts as long, or short, enough where tuning missed the target by so much: fresh seeds differ a little.
ROOM = 0.02
Searches = dict[Setting, Search]


class Rounds:
    """Tunes settings, and where a schedule ends with the run, finds the lengths between which the target lies."""

    def __init__(self, design: Design, trials: Trials, stages: Stages, courses: Mapping[str, Course]) -> None:
        self.design, self._trials, self._stages, self._courses = design, trials, stages, courses

    def searches(self, settings: Iterable[Setting]) -> Searches:
        """The search of each setting, and of those whose need is seen on the way."""
        found = {one: self._begun(one) for one in settings if one.arm not in self.design.rate_of}
        open_ones = list(found)
        while open_ones:
            jobs = [job for one in open_ones for step in found[one].steps for job in self.jobs(one, found[one], step)]
            self._stages.run("tune", jobs)
            for one in open_ones:
                self._note(one, found[one])
            open_ones = [one for one in open_ones if found[one].widen()]
            added = [] if open_ones else self._lengthened(found)
            found |= {one: self._begun(one) for one in added}
            open_ones += added
        return found

    def jobs(self, setting: Setting, search: Search, step: int) -> list[Job]:
        """The tuning runs of a step."""
        lr = search.rate(step)
        return [self.job("tune", setting, lr=lr, seed=seed) for seed in self.design.tuning_seeds]

    def job(self, stage: str, setting: Setting, *, lr: float, seed: int) -> Job:
        """A run that tunes or answers: validated on the way where that is needed, stopped at the target."""
        course, target = self._courses[setting.case.name], self.design.target
        stops = target is not None and course.is_constant
        every = course.validate_every if stops or (stage == "run" and target is None) else None
        stop_at = str(target) if stops else None
        return self._trials.job(stage, setting, lr=lr, seed=seed, validate_every=every, stop_at=stop_at)

    def _begun(self, setting: Setting) -> Search:
        return Search(self.design.grid, self._courses[setting.case.name].middle(setting.arm))

    def _note(self, setting: Setting, search: Search) -> None:
        target = self.design.target if self._courses[setting.case.name].is_constant else None
        for step in search.steps:
            results = [self._stages.result_of(job) for job in self.jobs(setting, search, step)]
            search.note(step, [loss_of(one) if target is None else samples_to(target, one) for one in results])

    def _lengthened(self, searches: Searches) -> list[Setting]:
        """The lengths that are still needed to have the target between two of them."""
        if self.design.target is None:
            return []
        return [
            one
            for course in self._courses.values()
            if not course.is_constant
            for arm in course.sizes
            for one in lengthened(
                [s for s in searches if s.key == (course.case.name, arm)], searches, self.design.target
            )
        ]


def lengthened(own: Sequence[Setting], searches: Searches, target: Target) -> list[Setting]:
    """The next length of one arm: twice the longest, half the shortest, or none where the target is between two."""
    lengths = [samples(one.duration, 1) for one in own]
    is_long = any(_is_long(one, searches, target) for one in own)
    is_short = any(_is_short(one, searches, target) for one in own)
    new = min(lengths) // 2 if is_long else 2 * max(lengths)
    if len(own) >= MOST_LENGTHS or (is_long and is_short) or not new:
        return []
    return [Setting(own[0].case, own[0].arm, f"{new}sp")]


def bracket(own: Sequence[Setting], searches: Searches, target: Target) -> list[Setting]:
    """The lengths of one arm from the longest that is short to the shortest that is long; all where there are none."""
    ordered = sorted(own, key=lambda one: samples(one.duration, 1))
    long = [place for place, one in enumerate(ordered) if _is_long(one, searches, target)]
    if not long:
        return ordered
    short = [place for place in range(long[0]) if _is_short(ordered[place], searches, target)]
    return ordered[short[-1] if short else 0 : long[0] + 1]


def _is_long(one: Setting, searches: Searches, target: Target) -> bool:
    return searches[one].best_score <= target.below * (1 - ROOM)


def _is_short(one: Setting, searches: Searches, target: Target) -> bool:
    return searches[one].best_score > target.below * (1 + ROOM)
