"""A network without one of its parts: layers, steps, or what one head adds. Its weights are never touched.

What stands before the part that is taken out gives the same tokens as before, so it need not be computed again: see
`Trace`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from crate_dsl.language.model import ONE, Parameter
from crate_dsl.library.form import Leaf
from runtime.errors import Inapplicable
from runtime.inspection.layers import layers
from runtime.inspection.places import Place

Forward = Callable[..., Tensor]


def passed_on(tokens: Tensor, *rest: object, **named: object) -> Tensor:
    """The forward pass of a layer or step that is left out: its input, cut to the first token where that is asked."""
    return tokens[:, :1] if any(value is True for value in (*rest, *named.values())) else tokens


@contextmanager
def replaced(module: nn.Module, forward: Forward) -> Iterator[None]:
    """`module` computes `forward` in the place of its own, which is its own again afterwards."""
    before = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before


@contextmanager
def without(modules: Iterable[nn.Module]) -> Iterator[None]:
    """These layers or steps are left out: tokens pass by them as they are."""
    with ExitStack() as stack:
        for module in modules:
            stack.enter_context(replaced(module, passed_on))
        yield


# ---- heads -------------------------------------------------------------------------------------------------------


def outer_map(place: Place) -> Parameter | None:
    """The family of matrices through which the heads of a step add to the tokens: U_out, or U where it is tied.

    None where the step has no heads.
    """
    families = {p.name: p for p in place.parameters if p.shape.family and ONE not in (p.shape.rows, p.shape.cols)}
    words = (word for assignment in place.derived.assignments for word in assignment.value.words)
    leftmost = (word.factors[0] for word in words if word.factors)
    return next((families[leaf.name] for leaf in leftmost if is_outer(leaf) and leaf.name in families), None)


def is_outer(factor: object) -> bool:
    return isinstance(factor, Leaf) and factor.index is not None and not factor.transposed


def heads(place: Place) -> int:
    """How many there are; 0 where a step has none."""
    outer = outer_map(place)
    return 0 if outer is None else place.block.sizes[outer.shape.family]


class Silence(TorchFunctionMode):
    """Zeroes one head of (batch, N, heads, p) where a written step puts its heads beside each other (`merge_heads`)."""

    def __init__(self, head: int, heads: int, width: int) -> None:
        super().__init__()
        self.head, self.apart = head, (heads, width)
        self.active = self.met = False

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, arguments: tuple[Any, ...] = (), named: Any = None
    ) -> Any:
        merges = self.active and function is Tensor.flatten and arguments[1:] == (2,)
        if merges and arguments[0].shape[2:] == self.apart:
            values = arguments[0].clone()
            values[:, :, self.head] = 0
            arguments, self.met = (values, *arguments[1:]), True
        return function(*arguments, **(named or {}))


@contextmanager
def silenced(place: Place, head: int) -> Iterator[None]:
    """What one head would add to the tokens is left out; its bias, which belongs to all heads, stays.

    What the head hands to the outer map is zero, as if that block of `U_out` were; the inner map stays whole, also
    where the outer one is made of it. Raises Inapplicable where a step has no heads, or where the written step, once
    computed, was found not to put them beside each other.
    """
    outer = outer_map(place)
    if outer is None:
        raise Inapplicable(f"{place.name} has no heads")
    silence = Silence(head, heads(place), place.block.sizes[outer.shape.cols])
    forward = place.module.forward

    def within(*arguments: Tensor, **named: object) -> Tensor:
        silence.active = True
        try:
            return forward(*arguments, **named)
        finally:
            silence.active = False

    with replaced(place.module, within), silence:
        yield
    if not silence.met:
        raise Inapplicable(f"{place.name} does not put its heads beside each other")


# ---- computing only what follows ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trace:
    """The tokens (batch, N, d) that enter each layer, by its name, for one batch."""

    entering: dict[str, Tensor]

    @contextmanager
    def resumed(self, network: nn.Module, name: str) -> Iterator[None]:
        """The network on the same batch, its layers before `name` not computed: `name` is given what it was given."""
        with ExitStack() as stack:
            for other, layer in layers(network):
                if other == name:
                    handed = layer.register_forward_pre_hook(lambda _, read: (self.entering[name], *read[1:]))
                    stack.callback(handed.remove)
                    break
                stack.enter_context(replaced(layer, passed_on))
            yield


@torch.no_grad()
def traced(network: nn.Module, compute: Callable[[], object]) -> Trace:
    """What enters every layer while `compute` calls the network once."""
    entering: dict[str, Tensor] = {}

    def kept(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, read: tuple[Tensor, ...]) -> None:
            entering[name] = read[0]

        return hook

    handles = [layer.register_forward_pre_hook(kept(name)) for name, layer in layers(network)]
    try:
        compute()
    finally:
        for handle in handles:
            handle.remove()
    return Trace(entering)
