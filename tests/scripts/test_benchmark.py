"""scripts/benchmark.py from end to end, on as little as it takes."""

import json
import sys
import warnings
from pathlib import Path

import pytest

from tests.forked import Forked

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import benchmark  # noqa: E402

QUICK = ("--quick", "--rounds", "1")


def measured(*arguments: object) -> int:
    # Those of torch.compile's own imports are no fault of the script.
    warnings.simplefilter("ignore")
    benchmark.main([str(one) for one in arguments])
    return 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmarks")
    # In a process of its own: it is kept on one core.
    process = Forked(
        lambda: measured(*QUICK, "--cases", "tiny", "--samples", 320, "--out", folder), folder / "said.txt", {}
    )
    code, said = process.ended()
    assert code == 0, said
    return folder


@pytest.fixture(scope="module")
def case(folder) -> dict:
    return json.loads((folder / "results.json").read_text())["loops"]["tiny32"]


@pytest.mark.slow
def test_record_has_every_peer_with_its_pairs(case):
    lightning = "Lightning, self.log, CSV"
    ours = {"ours", "ours, torch.optim", "ours, compiled", "ours, stock loop"}
    by_hand = {"(a')", "(a), torch.compile(model)", "(a), DataLoader"}
    assert set(case["peers"]) == {*by_hand, "Fabric", lightning, f"{lightning}, tqdm bar", *ours}
    measured = [peer[clock] for peer in case["peers"].values() for clock in ("wall", "cpu")]
    assert all(len(one["ratios"]) == 1 and one["us"] > 0 for one in measured)


@pytest.mark.slow
def test_direct_kernel_leaves_the_weights_of_torch_optim_bit_for_bit(case):
    assert case["is_bit_equal"] is True


@pytest.mark.slow
def test_record_says_where_and_how_it_was_measured(case):
    at = case["circumstances"]
    assert at["machine"]["cores_used"] == 1
    assert at["versions"]["torch"] and "--cases tiny" in at["command"] and len(case["load"]["before"]) == 3


@pytest.mark.slow
def test_page_sets_what_was_measured_beside_the_goals(folder, case):
    page = (folder / "README.md").read_text()
    assert f"| ours | tiny 32 | <= 0.85 | **{case['peers']['ours']['wall']['ratio']:.2f}**" in page


@pytest.mark.slow
def test_other_tables_join_the_record_and_keep_what_is_there(forked, folder, case):
    assert forked(lambda: measured(*QUICK, "--norm", "--out", folder)).exit_code() == 0
    results = json.loads((folder / "results.json").read_text())
    assert results["loops"]["tiny32"] == case
    assert len(results["norm"]["tables"]["norm alone"]) == 3


@pytest.mark.slow
def test_cost_of_checkpoints_is_a_table_of_its_own(forked, tmp_path):
    assert forked(lambda: measured(*QUICK, "--checkpoints", "--samples", 512, "--out", tmp_path)).exit_code() == 0
    cases = json.loads((tmp_path / "results.json").read_text())["checkpoints"]["cases"]
    assert [row["weights"] for row in cases.values()] == [203_530, 10_718_410]
    assert "## Checkpoints" in (tmp_path / "README.md").read_text()


@pytest.mark.slow
def test_cost_of_probes_is_a_table_of_its_own(forked, tmp_path):
    assert forked(lambda: measured(*QUICK, "--probes", "--samples", 512, "--out", tmp_path)).exit_code() == 0
    rows = json.loads((tmp_path / "results.json").read_text())["probes"]["rows"]
    assert len(rows) == 10 and all(row["cpu"]["ratio"] > 0 for row in rows)
    assert "| noise scale, closed form | mlp256 |" in (tmp_path / "README.md").read_text()


def test_unknown_case_is_refused_in_one_line(forked):
    code, said = forked(lambda: measured("--quick", "--cases", "huge")).ended()
    assert code == 1
    assert said.startswith("--cases huge: no such case") and said.count("\n") == 1
