"""What `_target_` becomes."""

import pytest
from torch import nn

from mbtrain.config.build import build
from mbtrain.plan.refused import Refused

LINEAR = {"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 3}


def test_a_node_is_called_with_its_other_keys() -> None:
    layer = build(LINEAR, key="model")
    assert (layer.in_features, layer.out_features) == (2, 3)


def test_what_is_offered_is_taken_where_the_signature_asks_for_it() -> None:
    assert build(LINEAR, key="model", offered={"bias": False, "num_outputs": 3}).bias is None


def test_what_the_node_says_wins_over_what_is_offered() -> None:
    assert build(LINEAR, key="model", offered={"out_features": 9}).out_features == 3


def test_a_left_key_is_no_argument() -> None:
    assert build(LINEAR | {"weights": None}, key="model", leave=("weights",)).in_features == 2


def test_nodes_inside_are_built_first() -> None:
    node = {"_target_": "torch.nn.modules.transformer.TransformerEncoder", "num_layers": 1}
    layer = {"_target_": "torch.nn.TransformerEncoderLayer", "d_model": 4, "nhead": 2, "dim_feedforward": 4}
    model = build(node | {"encoder_layer": layer, "enable_nested_tensor": False}, key="model")
    assert isinstance(model.layers[0], nn.TransformerEncoderLayer)


def test_nodes_in_lists_and_mappings_are_built() -> None:
    made = build({"_target_": "torch.nn.ModuleDict", "modules": {"a": LINEAR}}, key="model")
    assert isinstance(made["a"], nn.Linear)
    made = build({"_target_": "torch.nn.ModuleList", "modules": [LINEAR, LINEAR]}, key="model")
    assert len(made) == 2


def test_a_hostile_node_inside_is_refused_with_its_place() -> None:
    with pytest.raises(Refused, match=r"model.modules\[1\]._target_=os.system"):
        build({"_target_": "torch.nn.ModuleList", "modules": [LINEAR, {"_target_": "os.system"}]}, key="model")


def test_a_misspelt_option_is_refused_with_the_nearest() -> None:
    with pytest.raises(Refused, match=r"model.in_featurs=2: .* takes no in_featurs; did you mean model.in_features"):
        build({"_target_": "torch.nn.Linear", "in_featurs": 2}, key="model")


def test_a_missing_argument_is_refused() -> None:
    with pytest.raises(Refused, match="model.out_features: torch.nn.Linear needs it, give model.out_features=VALUE"):
        build({"_target_": "torch.nn.Linear", "in_features": 2}, key="model")


def test_the_config_is_not_changed() -> None:
    node = dict(LINEAR)
    build(node, key="model", offered={"bias": False})
    assert node == LINEAR
