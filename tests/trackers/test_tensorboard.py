import math
import subprocess
import sys

import pytest

from tests.trackers.fake_runs import epoch_row, iteration_row

pytest.importorskip("tensorboard")

from tensorboard.compat.proto.event_pb2 import Event  # noqa: E402
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import PyRecordReader_New  # noqa: E402

from mbtrain.trackers.tensorboard import TensorBoard  # noqa: E402


def write(folder, *, last=20):
    (folder / "config.yaml").touch()
    tracker = TensorBoard(run_dir=str(folder), flush_s=1)
    for i in range(1, last + 1):
        tracker("iteration", iteration_row(i))
        if i % 10 == 0:
            tracker("epoch", epoch_row(i))
    tracker.close("done", {"test/accuracy": 0.75, "status": "done", "versions": {}})


def scalars(folder):
    """{tag: [(step, value), ...]} of the one event file."""
    (file,) = (folder / "tensorboard").iterdir()
    reader = PyRecordReader_New(str(file))
    found: dict[str, list[tuple[int, float]]] = {}
    while True:
        try:
            reader.GetNext()
        except Exception:
            return found
        event = Event.FromString(reader.record())
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))


def test_each_iteration_is_one_step(tmp_path):
    write(tmp_path)
    assert [step for step, _ in scalars(tmp_path)["train/loss"]] == list(range(1, 21))


def test_means_of_an_epoch_and_validation_stand_at_its_last_iteration(tmp_path):
    write(tmp_path)
    assert scalars(tmp_path)["train/loss_epoch"] == [(10, 0.5), (20, 0.5)]
    assert scalars(tmp_path)["val/loss"] == [(10, 0.75), (20, 0.75)]


def test_null_is_nan(tmp_path):
    write(tmp_path)
    assert math.isnan(scalars(tmp_path)["train/loss"][1][1])


def test_the_result_stands_at_the_last_step(tmp_path):
    write(tmp_path)
    assert scalars(tmp_path)["result/test/accuracy"] == [(20, 0.75)]


def test_a_replay_leaves_one_file(tmp_path):
    write(tmp_path, last=5)
    write(tmp_path)
    assert len(scalars(tmp_path)["train/loss"]) == 20


def test_it_does_not_import_torch():
    code = "import sys, mbtrain.trackers.tensorboard; sys.exit('torch' in sys.modules or 'tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
