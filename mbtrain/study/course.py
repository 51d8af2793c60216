"""The course of a case: how long each of its arms trains at each budget, and how often it is validated."""

from collections.abc import Mapping
from dataclasses import dataclass

from mbtrain.study.calibration import Pace
from mbtrain.study.design import Case, Design
from mbtrain.study.lengths import common, durations, longer, samples
from mbtrain.study.setting import Setting

# Validations of a run that answers, at the least.
POINTS = 20


@dataclass(frozen=True)
class Course:
    """A case with what is known of its arms: samples of a mini-batch, time of an update (empty: not timed), schedule.

    Under a constant learning rate the further budgets are read off the same runs; where the rate moves with the run's
    length they have runs of their own.
    """

    case: Case
    design: Design
    sizes: Mapping[str, int]
    paces: Mapping[str, Pace]
    schedule: str

    @property
    def is_constant(self) -> bool:
        """Whether a run's beginning is what a shorter run would have been."""
        return self.schedule == "constant"

    def middle(self, arm: str) -> float:
        """The learning rate in the middle of an arm's grid."""
        grid = self.design.grid
        return self.case.lr * (self.sizes[arm] / self.sizes[self.design.reference]) ** grid.power

    def main(self) -> dict[str, Setting]:
        """The arms at the study's own budget."""
        own = durations(self.case, self.design.budget, self.design.reference, self.sizes, self.paces)
        return self._settings({arm: longer(one, self.design.times.get(arm, 1.0)) for arm, one in own.items()})

    def further(self) -> dict[str, dict[str, Setting]]:
        """By further budget, the arms that need runs of their own."""
        if self.is_constant:
            return {}
        own = {arm: one.duration for arm, one in self.main().items()}
        return {
            budget: self._settings(dict.fromkeys(own, common(budget, own, self.sizes)))
            for budget in self.design.also
            if budget != self.design.budget
        }

    @property
    def validate_every(self) -> int:
        """Samples between validations; where arms are read off at equal updates too, the fewest come after two."""
        if self.case.validate_every is not None:
            return self.case.validate_every
        own = {arm: samples(one.duration, self.sizes[arm]) for arm, one in self.main().items()}
        if "updates" not in self.design.also:
            return max(1, min(own.values()) // POINTS)
        fewest_updates = min(count // self.sizes[arm] for arm, count in own.items())
        return max(1, min(fewest_updates * min(self.sizes.values()) // 2, min(own.values()) // POINTS))

    def _settings(self, durations: Mapping[str, str]) -> dict[str, Setting]:
        return {arm: Setting(self.case, arm, one) for arm, one in durations.items()}
