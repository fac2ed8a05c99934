"""The two ends of a network, from the words of the spec: what makes tokens of the input, and the head."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from crate_dsl.language.model import Model
from crate_dsl.pytorch.file import File
from crate_dsl.pytorch.image_front import ImageFront
from crate_dsl.pytorch.lines import indented
from crate_dsl.pytorch.stem import MASK_STANDARD_DEVIATION, token_lines, weight_lines
from crate_dsl.pytorch.text_front import TextFront
from crate_dsl.pytorch.vectors_front import VectorsFront


class Front(Protocol):
    """What the written network needs to know of its input; one class per word of the `input` line."""

    argument: str  # of the network's methods
    unit: str  # what becomes one token, and several of it
    units: str
    class_token: bool
    outputs: str  # numbers that the head gives for every token, where it predicts the input

    def constants(self) -> list[str]: ...  # of the module
    def classes(self) -> list[list[str]]: ...  # of the stem
    def facts(self) -> list[str]: ...  # class attributes
    def stem(self) -> list[str]: ...  # of `__init__`, as `positions`
    def positions(self) -> list[str]: ...
    def embedded(self) -> str: ...  # the input as tokens, without what is added
    def masked(self) -> list[str]: ...  # the mask, and the input as tokens where it is not hidden
    def placed(self) -> str: ...  # the tokens `z` with their positions
    def methods(self) -> list[str]: ...


FRONTS: Mapping[str, Callable[[File], Front]] = {"image": ImageFront, "text": TextFront, "vectors": VectorsFront}


BARE = {"tokens", "features"}  # heads without parameters


def front_of(file: File) -> Front:
    return FRONTS[file.model.input.name](file)


def task_of(model: Model) -> str:
    """The kind of a network: which tasks of the runtime can train it."""
    match model.head.word.name:
        case "classify" | "tokens" | "features" as name:
            return name
        case "vocabulary":
            return "masked_language" if model.mask else "language"
    return "mae" if model.mask else "reconstruct"


# ---- the stem --------------------------------------------------------------------------------------------------


def mask_ratio(model: Model) -> float | None:
    return float(model.mask.arguments[0]) if model.mask else None


def stem_lines(file: File, front: Front) -> list[str]:
    """The stem's part of `__init__`."""
    d, inits = file.d, file.model.inits
    lines = front.stem()
    if file.model.mask:
        lines += token_lines("mask_token", "1, 1, " + d, inits.get("mask_token"), MASK_STANDARD_DEVIATION)
    if front.class_token:
        lines += token_lines("class_token", "1, 1, " + d, inits.get("class_token"), 1.0)
    return lines + front.positions()


def tokens_method(file: File, front: Front) -> list[str]:
    """The input to tokens; with a mask, also which of them are hidden."""
    n, d = file.constants.size(file.model.tokens.cols), file.d
    masked = file.model.mask is not None
    noise, result = (", noise: Tensor | None = None", "tuple[Tensor, Tensor]") if masked else ("", "Tensor")
    lines = [f"z = {front.embedded()}"]
    if masked:
        lines = front.masked()
    if front.class_token:
        lines.append("z = torch.cat((self.class_token.expand(len(z), -1, -1), z), dim=1)")
    placed = front.placed()
    if len(lines) == 1 and front.embedded().isidentifier():  # nothing is made of it but a name
        lines, placed = [], placed.replace("z", front.embedded(), 1)
    lines.append(f"return {placed}, mask" if masked else f"return {placed}")
    about = f'"""The tokens that enter the first layer, (batch, {n}, {d})' + (
        ', and the mask."""' if masked else '."""'
    )
    return [f"def tokens(self, {front.argument}: Tensor{noise}) -> {result}:", *indented([about, *lines])]


# ---- the head --------------------------------------------------------------------------------------------------


def is_tied(model: Model) -> bool:
    """Whether the head is the transposed embedding, so that both are one parameter."""
    return "tied" in model.head.word.arguments


def head_lines(file: File, front: Front) -> list[str]:
    """The head's part of `__init__`; a head on a vocabulary has no bias, as in GPT-2."""
    if is_tied(file.model) or task_of(file.model) in BARE:
        return []
    d, word = file.d, file.model.head.word
    outputs = str(word.arguments[0]) if word.name == "classify" else front.outputs
    weights = weight_lines("self.head.weight", file.model.inits.get("head"))
    if word.name == "vocabulary":
        return [f"self.head = nn.Linear({d}, {outputs}, bias=False)", *weights]
    zeros = ["nn.init.zeros_(self.head.bias)"] if weights else []
    return [f"self.head = nn.Linear({d}, {outputs})", *weights, *zeros]


def pool_code(model: Model) -> str:
    """What a head that reads one token makes of the tokens z: the class token, or the mean of all tokens."""
    if model.head.of is None:
        return ""
    return "z[:, 0]" if model.head.of == "class_token" else "z.mean(dim=1)"


def head_code(model: Model, front: Front) -> str:
    """What the head makes of z, pooled already where it reads one token."""
    if task_of(model) in BARE:
        return "z"
    if task_of(model) == "classify":
        return "self.head(z)"
    if is_tied(model):
        return "F.linear(z, self.embedding.weight)"
    return "self.head(z[:, 1:])" if front.class_token else "self.head(z)"
