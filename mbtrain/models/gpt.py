"""A small decoder-only transformer for sequences of ids, such as characters (GPT-2's layout, pre-norm)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from mbtrain.plan.refused import Refused


class Gpt(nn.Module):
    """Token and learned position embeddings, `depth` blocks of attention and MLP, and the token embedding as output.

    The weights start from N(0, 0.02^2), those that write into the residual stream from 1 / sqrt(2 depth) of that
    spread, as in GPT-2; biases start from 0. Input and output embedding are one parameter (arXiv 1608.05859).
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[int],
        num_outputs: int,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if len(input_shape) != 1:
            raise Refused(
                f"model=gpt: needs sequences of ids [positions], the data's shape is {list(input_shape)}: "
                "take dataset=text, or another model"
            )
        if width % heads:
            raise Refused(f"model.width={width}: must be a multiple of model.heads={heads}")
        self.token = nn.Embedding(num_outputs, width)
        self.position = nn.Embedding(input_shape[0], width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(Block(width, heads, dropout) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self._start(depth)

    def _start(self, depth: int) -> None:
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                is_residual = name.endswith("out.weight")
                nn.init.normal_(parameter, std=0.02 / (2 * depth) ** 0.5 if is_residual else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits [n, vocabulary, positions] of the id that follows each of `ids` [n, positions], int64.

        Fewer positions than the data's are taken too.
        """
        x = self.dropout(self.token(ids) + self.position.weight[: ids.shape[1]])  # [n, positions, width]
        return F.linear(self.norm(self.blocks(x)), self.token.weight).transpose(1, 2)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); a position sees itself and those before it."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend_in, self.attend_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp_in, self.mlp_out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """The residual stream [n, positions, width] after this block."""
        x = x + self.dropout(self.attend_out(self._attention(self.norm_1(x))))
        return x + self.dropout(self.mlp_out(F.gelu(self.mlp_in(self.norm_2(x)))))

    def _attention(self, x: Tensor) -> Tensor:
        query, key, value = self.attend_in(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        rate = self.dropout.p if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, dropout_p=rate)
        return mixed.transpose(1, 2).flatten(2)  # [n, heads, positions, width / heads] -> [n, positions, width]
