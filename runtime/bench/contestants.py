"""Who takes part: the ways to run the compiled network, and the baselines beside it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

import crate_dsl
from runtime.bench.accuracy import difference
from runtime.bench.case import Case
from runtime.bench.forms import FORMS, NOTES, weights_of_official
from runtime.bench.workload import Call, Workload

SAME = 1e-8  # relative difference of outputs in float64 up to which two networks are one function
NETWORK, COMPILED = "compiled", "torch.compile"


@dataclass(frozen=True)
class Contestant:
    """`module` holds the parameters, `call` is what is run: the module, or what torch.compile made of it.

    `weights_of` is the label of the contestant whose function it computes, with the same weights; None: its own.
    """

    label: str
    module: nn.Module
    call: Call
    trains: bool = True
    weights_of: str | None = None
    note: str = ""


@dataclass(frozen=True)
class Way:
    """A way to run the compiled network: `make` gives the module and what is called, from the network with its weights.

    `optional` ways are asked for by an option of that name; a way that does not train is timed forward alone.
    """

    label: str
    make: Callable[[Case], tuple[nn.Module, Call]]
    note: str
    trains: bool = True
    optional: str | None = None


def as_written(case: Case) -> tuple[nn.Module, Call]:
    return case.network, case.network


def frozen(case: Case) -> tuple[nn.Module, Call]:
    """Compiled anew for inference, with the network's weights."""
    gpu = case.compilation.gpu
    network = crate_dsl.load(case.spec, case.preset, freeze=True, gpu=gpu, **case.overrides)
    network.load_state_dict(case.network.state_dict())
    network.to(next(case.network.parameters()).device)
    return network, network


def checkpointed(case: Case) -> tuple[nn.Module, Call]:
    """A network of its own, since the written one keeps what it keeps."""
    network = copy.deepcopy(case.network)
    network.checkpointing = True
    return network, network


def fast(module: nn.Module) -> Call:
    """Under torch.compile, for the one batch that is measured."""
    return torch.compile(module, dynamic=False)


def under_torch_compile(case: Case) -> tuple[nn.Module, Call]:
    return case.network, fast(case.network)


def frozen_under_torch_compile(case: Case) -> tuple[nn.Module, Call]:
    network, _ = frozen(case)
    return network, fast(network)


WAYS = (
    Way(NETWORK, as_written, "the written file"),
    Way("frozen", frozen, "compiled for inference, weights as constants", trains=False),
    Way("checkpointed", checkpointed, "it, every layer run again in the backward pass"),
    Way(f"{NETWORK}, {COMPILED}", under_torch_compile, "the written file under torch.compile", optional="compile"),
    Way(
        f"frozen, {COMPILED}",
        frozen_under_torch_compile,
        "the frozen file under torch.compile",
        trains=False,
        optional="compile",
    ),
)


@dataclass(frozen=True)
class Field:
    """All contestants; `references` are the labels of those that the others are divided by.

    `difference` is that of the compiled network's outputs from those of the official form with the same weights,
    relative and in float64, where their weights can be the same.
    """

    contestants: tuple[Contestant, ...]
    references: tuple[str, ...]
    difference: float | None


def gather(
    case: Case, baselines: Sequence[str], options: frozenset[str], work: Workload, ways: Sequence[Way] | None = None
) -> Field:
    """Build all contestants; where the official form is among them its weights become those of the network."""
    forms = {label: FORMS[label](case).train() for label in baselines}
    found = adopt(case, forms["official"], work) if "official" in forms else None
    same = found is not None and found <= SAME
    rows = []
    for way in WAYS if ways is None else ways:
        if way.optional is None or way.optional in options:
            module, call = way.make(case)
            own = None if way.label == NETWORK else NETWORK
            rows.append(Contestant(way.label, module, call, way.trains, "official" if same else own, way.note))
    for label, module in forms.items():
        note = NOTES[label] + ("" if label == "official" and same else ", another function")
        rows.append(Contestant(label, module, module, note=note))
    references = list(baselines[:1]) or [NETWORK]
    if baselines and "compile" in options:
        first = forms[baselines[0]]
        label = f"{baselines[0]}, {COMPILED}"
        rows.append(Contestant(label, first, fast(first), note=f"{baselines[0]} under torch.compile"))
        references.append(label)
    return Field(tuple(rows), tuple(references), found)


def adopt(case: Case, form: nn.Module, work: Workload) -> float | None:
    """Give the network the weights of the official form, and compare what both put out in float64."""
    weights = weights_of_official(form, case.network)
    if weights is None:
        return None
    case.network.load_state_dict(weights)
    return difference(case.network, form, work)
