"""The entries of a compiled network by position: which step of which layer, and what the entry is there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

STEP = re.compile(r"((?:encoder|decoder)\.\d+)\.([^.]+)\.(.+)")


def places_of(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The places of a compiled network's names: `encoder.0.compress.U_out` is at `encoder.0.0.matrix_out`.

    What has a role in its step also has a place by its own name, `encoder.0.0.U_out`; what is in no layer has only
    that.
    """
    layers: dict[str, dict[str, list[str]]] = {}
    places = {}
    for name in names:
        places[name] = (name,)
        if found := STEP.fullmatch(name):
            layers.setdefault(found[1], {}).setdefault(found[2], []).append(found[3])
    for layer, steps in layers.items():
        for number, (step, parameters) in enumerate(steps.items()):
            for name, role in roles(parameters).items():
                by_role, by_name = f"{layer}.{number}.{role}", f"{layer}.{number}.{name}"
                places[f"{layer}.{step}.{name}"] = tuple(dict.fromkeys((by_role, by_name)))
    return places


def compiled_names(names: Iterable[str]) -> dict[str, str]:
    """From places to a compiled network's names; where a name is another's role, the role wins."""
    places = places_of(names)
    by_name = {found[-1]: name for name, found in places.items()}
    return by_name | {found[0]: name for name, found in places.items()}


def roles(parameters: Sequence[str]) -> dict[str, str]:
    """Which parameter of a step is its matrix, which the free adjoint and its bias, and which comes second."""
    plain = [name for name in parameters if "." not in name]
    inner = next((name for name in plain if f"{name}_out" in plain), plain[0] if plain else "")
    family = {inner: "matrix", f"{inner}_out": "matrix_out", f"{inner}_bias": "matrix_bias"}
    second = dict.fromkeys([name for name in plain if name not in family][:1], "second")
    return {name: (family | second).get(name, name) for name in parameters}
