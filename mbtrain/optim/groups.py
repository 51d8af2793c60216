"""Parameter groups: which weights decay."""

from typing import Any

from torch import nn

_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm)


def parameter_groups(model: nn.Module, *, decays_norms: bool) -> list[dict[str, Any]]:
    """All trained parameters, in one group, or with norms and biases apart and spared from weight decay."""
    parameters = {name: one for name, one in model.named_parameters() if one.requires_grad}
    if decays_norms:
        return [{"params": list(parameters.values())}]
    spared = {id(one) for module in model.modules() if isinstance(module, _NORMS) for one in module.parameters()}
    spared |= {id(one) for name, one in parameters.items() if name.rsplit(".", 1)[-1] == "bias"}
    groups = [
        {"params": [one for one in parameters.values() if id(one) not in spared]},
        {"params": [one for one in parameters.values() if id(one) in spared], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
