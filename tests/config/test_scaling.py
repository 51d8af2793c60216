"""Scaling rules in a config: what is refused before torch is imported."""

import pytest

from tests.config.test_check import faults_of

ADAM = ["optimizer=adamw", "scaling.reference_size=32"]


@pytest.mark.parametrize("rule", ["linear", "sqrt", "adam_sqrt", "adam_half_life"])
def test_a_rule_needs_its_reference_size(rule: str) -> None:
    assert faults_of("optimizer=adamw", f"scaling={rule}") == [
        f"scaling.reference_size=null: scaling={rule} needs the batch size that optimizer.lr and the other values are "
        "meant for, such as scaling.reference_size=32"
    ]


@pytest.mark.parametrize("option", ["batch_norm_momentum", "weight_decay"])
def test_an_option_needs_it_too_without_a_rule(option: str) -> None:
    assert len(faults_of(f"scaling.{option}=true")) == 1
    assert faults_of(f"scaling.{option}=true", "scaling.reference_size=32") == []


def test_a_reference_size_alone_changes_nothing_and_passes() -> None:
    assert faults_of("scaling.reference_size=32") == []


def test_adams_rule_is_refused_beyond_its_largest_batch_size() -> None:
    assert faults_of(*ADAM, "scaling=adam_sqrt", "batch.size=319") == []
    assert faults_of(*ADAM, "scaling=adam_sqrt", "batch.size=320") == [
        "scaling=adam_sqrt: is not defined for batch.size=320 with scaling.reference_size=32 "
        "(1 - beta = 0.1 times 10 is not below 1): batch.size=319 is the largest"
    ]
    assert faults_of(*ADAM, "scaling=adam_half_life", "batch.size=4096") == []


@pytest.mark.parametrize("rule", ["adam_sqrt", "adam_half_life"])
def test_an_adam_rule_is_refused_for_sgd(rule: str) -> None:
    assert faults_of(f"scaling={rule}", "scaling.reference_size=32") == [
        f"scaling={rule}: the optimizer has no betas: take optimizer=adamw, or scaling=linear"
    ]


def test_an_option_that_no_rule_has_is_told_of_once() -> None:
    assert faults_of("scaling=linear", "scaling.reference_size=32", "+scaling.power=2") == [
        "scaling.power=2: mbtrain.plan.scaling.Linear has no such option; it takes none"
    ]


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("scaling.reference_size=0", "scaling.reference_size=0: must be a whole number of at least 1, or null"),
        ("scaling.weight_decay=2", "scaling.weight_decay=2: must be true or false"),
        ("optimizer.betas=0.9", "optimizer.betas=0.9: must be two numbers of at least 0 and below 1, such as"),
        ("optimizer.betas=[0.9,1]", "optimizer.betas=[0.9, 1]: must be two numbers of at least 0 and below 1, such as"),
    ],
)
def test_a_wrong_value_is_refused(override: str, line: str) -> None:
    lines = faults_of("optimizer=adamw", override)
    assert len(lines) == 1 and lines[0].startswith(line)
