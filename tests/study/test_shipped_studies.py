"""The studies that are shipped: every arm of every case composes and passes the checks."""

import pytest
import yaml

from mbtrain.config.driver import conf_dir, driver
from mbtrain.study.study import designed

STUDIES = [
    (file.stem, scale)
    for file in sorted(conf_dir().glob("study/*.yaml"))
    for scale in yaml.safe_load(file.read_text()).get("scales", ())
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "scale"), STUDIES)
def test_every_arm_of_every_case_composes(name: str, scale: str) -> None:
    with driver() as hydra:
        design, trials, _ = designed(hydra, "train", [f"study={name}", f"study.scale={scale}"])
    assert all(trials.batch_size(case, arm) for case in design.cases for arm in design.arms_of(case))
    # What is not tuned takes a rate that is.
    assert not set(design.rate_of) & set(design.rate_of.values())
