"""Class attention in the written file: the class of a block, and of the stage."""

from __future__ import annotations

from crate_dsl.language.model import ClassAttention
from crate_dsl.pytorch.file import File
from crate_dsl.pytorch.lines import indented
from crate_dsl.pytorch.stem import token_lines

DEVIATION = 0.02  # of linear maps and of the class token, as officially
EPSILON = 1e-6  # of its norms
WIDER = 4  # the perceptron inside, than the tokens


def class_attention_classes(attention: ClassAttention, file: File, name: str) -> list[list[str]]:
    """The class of one block and that of the stage, which bears this name."""
    block = file.names.new(f"{name}Block")
    return [_block(attention, file, block), _stage(attention, file, name, block)]


def _block(attention: ClassAttention, file: File, name: str) -> list[str]:
    d, heads, scale = file.d, attention.heads, float(attention.scale)
    file.helpers.update({"split_heads", "merge_heads"})
    norm = f"nn.LayerNorm({d}, eps={EPSILON!r})"
    return [
        f"class {name}(nn.Module):",
        *indented(
            [
                '"""The class token, the first, reads all tokens (CaiT, Touvron et al. 2021), then a perceptron.',
                "",
                "As in XCiT (El-Nouby et al. 2021), where the other tokens are normalised and added to themselves.",
                '"""',
                "",
                "def __init__(self) -> None:",
                "    super().__init__()",
                f"    self.norm1, self.norm2 = {norm}, {norm}",
                f"    self.qkv, self.out = nn.Linear({d}, 3 * {d}), nn.Linear({d}, {d})",
                f"    self.fc1, self.fc2 = nn.Linear({d}, {WIDER} * {d}), nn.Linear({WIDER} * {d}, {d})",
                f"    self.gamma1 = nn.Parameter(torch.full(({d},), {scale!r}))",
                f"    self.gamma2 = nn.Parameter(torch.full(({d},), {scale!r}))",
                "    for layer in (self.qkv, self.out, self.fc1, self.fc2):",
                f"        nn.init.trunc_normal_(layer.weight, std={DEVIATION!r})",
                "        nn.init.zeros_(layer.bias)",
                "",
                f"def forward(self, z: Tensor) -> Tensor:  # (batch, tokens, {d})",
                "    v = self.norm1(z)",
                f"    query = F.linear(v[:, :1], self.qkv.weight[:{d}], self.qkv.bias[:{d}])",
                f"    key, value = F.linear(v, self.qkv.weight[{d}:], self.qkv.bias[{d}:]).chunk(2, dim=-1)",
                f"    read = F.scaled_dot_product_attention(*(split_heads(x, {heads}) for x in (query, key, value)))",
                "    z = z + self.gamma1 * torch.cat((self.out(merge_heads(read)), v[:, 1:]), dim=1)",
                "    z = self.norm2(z)",
                "    made = self.gamma2 * self.fc2(F.gelu(self.fc1(z[:, :1])))",
                "    return z + torch.cat((made, z[:, 1:]), dim=1)",
            ]
        ),
    ]


def _stage(attention: ClassAttention, file: File, name: str, block: str) -> list[str]:
    d = file.d
    token = token_lines("class_token", f"1, 1, {d}", file.model.inits.get("class_token"), DEVIATION)
    return [
        f"class {name}(nn.Module):",
        *indented(['"""A class token enters before the tokens and reads them, block by block."""', ""]),
        *indented(["def __init__(self) -> None:", "    super().__init__()", *indented(token)]),
        *indented([f"    self.blocks = nn.Sequential(*({block}() for _ in range({attention.blocks})))", ""]),
        *indented(
            [
                f"def forward(self, z: Tensor) -> Tensor:  # (batch, N, {d}) -> (batch, 1 + N, {d})",
                "    return self.blocks(torch.cat((self.class_token.expand(len(z), -1, -1), z), dim=1))",
            ]
        ),
    ]
