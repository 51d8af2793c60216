"""What probes logged, drawn together: noise scale with its band against the batch size, norms, BN noise, time."""

from pathlib import Path

import numpy as np
import pytest

from mbtrain.analysis.charts import Lines
from mbtrain.analysis.probe_sections import sections
from mbtrain.analysis.section import Section
from mbtrain.analysis.thinned import ThinnedLog
from tests.analysis.folders import row, write_rows


def told(path: Path, **columns: float | None) -> dict[str, Section]:
    named = {name.replace("__", "/"): value for name, value in columns.items()}
    write_rows(path / "log", [row(index) | named for index in range(20)])  # pyright: ignore[reportOperatorIssue]
    log = ThinnedLog(path / "log")
    log.read()
    return {one.title: one for one in sections(log)}


def test_a_log_without_probes_has_none_of_these_sections(tmp_path: Path) -> None:
    assert told(tmp_path) == {}


@pytest.mark.parametrize(("high", "drawn"), [(90.0, 90.0), (None, 4 * 50.0), (1e9, 4 * 50.0)])
def test_noise_scale_stands_with_its_band_beside_the_batch_size(
    tmp_path: Path, high: float | None, drawn: float
) -> None:
    noise = {"noise__averaged_scale": 50.0, "noise__scale_low": 0.0, "noise__scale_high": high}
    chart = told(tmp_path, **noise)["Noise scale"].panels[0].charts[0]
    assert isinstance(chart, Lines)
    scale, size = chart.series
    assert scale.low is not None and scale.high is not None
    assert (scale.y == 50).all() and (size.y == 32).all()
    np.testing.assert_allclose((scale.low[0], scale.high[0]), (32 / 4, drawn))


def test_layers_share_a_chart_for_norms_and_for_batch_norm(tmp_path: Path) -> None:
    columns = {"gradient__norm": 2.0, "gradient__norm__a": 1.0, "bn__a__mean_shift": 0.1, "bn__b__mean_shift": 0.2}
    found = told(tmp_path, **columns, bn__mean_shift=0.15)
    lines = {title: one.panels[0].charts[0].series for title, one in found.items()}  # pyright: ignore
    assert [one.name for one in lines["Gradient norms"]] == ["all", "a"]
    assert [one.name for one in lines["Batch norm's noise"]] == ["a", "b"]


def test_time_split_tells_shares_speed_and_memory(tmp_path: Path) -> None:
    parts = {
        "time__data_s": 0.001,
        "time__forward_backward_s": 0.006,
        "time__update_s": 0.002,
        "time__logging_s": 0.001,
    }
    section = told(tmp_path, **parts, time__samples_per_s=1234.0, memory__peak_bytes=3.0 * 2**20)["Time split"]
    shares = {line[0].text: line[2].key for line in section.tables[0].rows}
    assert shares == pytest.approx({"data": 0.1, "forward-backward": 0.6, "update": 0.2, "logging": 0.1})
    assert list(section.text) == ["1,234 samples a second on average.", "Most memory in use: 3 MiB."]
