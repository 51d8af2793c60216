"""A setting of a study: a case under an arm at a length; what has a learning rate of its own."""

from dataclasses import dataclass

from mbtrain.study.design import Case


@dataclass(frozen=True)
class Setting:
    """One arm of a case, trained for `duration`: iterations ("400it") or samples ("12800sp")."""

    case: Case
    arm: str
    duration: str

    @property
    def key(self) -> tuple[str, str]:
        """Case and arm by name."""
        return self.case.name, self.arm

    @property
    def name(self) -> str:
        """What the folders of its runs begin with."""
        return f"{self.case.name}_{self.arm}_{self.duration}"
