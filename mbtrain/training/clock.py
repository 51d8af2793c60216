"""How far the run is: the only place that knows, and all that a resume needs to know where to go on."""

from mbtrain.plan.run import Iteration, RunPlan


class Clock:
    """Counts the iterations done; the plan says where the next one stands."""

    def __init__(self, plan: RunPlan) -> None:
        self.plan = plan
        self.done = 0
        # Whether an iteration that is not done has changed weights or buffers.
        self.is_touched = False

    @property
    def is_over(self) -> bool:
        """Whether the run has its length."""
        return self.done >= self.plan.num_iterations

    @property
    def is_between_epochs(self) -> bool:
        """Whether the last iteration done ended an epoch."""
        return self.done == 0 or self.last.is_last_of_epoch

    @property
    def done_in_epoch(self) -> int:
        """The iterations done of the epoch in progress, 0 between two epochs."""
        return 0 if self.is_between_epochs else self.done - self.plan.first_of_epoch(self.last.epoch)

    @property
    def last(self) -> Iteration:
        """The last iteration done."""
        return self.plan.iteration(self.done - 1)

    @property
    def next(self) -> Iteration:
        """The iteration to come."""
        return self.plan.iteration(self.done)
