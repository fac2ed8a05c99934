"""What is known of a grid before anything is trained: sizes, and how far each approximation leads astray."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from rich.table import Table

import crate_dsl
from crate_dsl import Finding
from runtime.errors import UserError
from runtime.storage.log import console
from runtime.variants.grid import Candidate
from runtime.variants.results import quantity


def forecast(found: Sequence[Candidate], preset: str | None, title: str) -> None:
    """Print parameters, FLOPs and the compiler's measurements of every variant.

    Raises UserError where not one of them could be trained.
    """
    table = Table(title=f"{title}: nothing is trained", title_justify="left")
    for name in ("variant", "parameters", "FLOPs", "exact claims", "distance from the exact step after each line"):
        table.add_column(name, justify="right" if name in ("parameters", "FLOPs") else "left", overflow="fold")
    for candidate in found:
        if candidate.problem:
            table.add_row(candidate.variant.label, "", "", "", f"not trained: {candidate.problem}")
            continue
        findings = crate_dsl.certify(candidate.compilation(preset).derivation)
        claims = [finding.passed for finding in findings if finding.passed is not None]
        verdict = f"{sum(claims)} of {len(claims)} hold"
        sizes = (f"{candidate.parameters:,}", quantity(candidate.flops))
        table.add_row(candidate.variant.label, *sizes, verdict, departures(findings))
    console().print(table)
    if all(candidate.problem for candidate in found):
        raise UserError("no variant can be trained")
    print("distance: relative error of the step, at the compiler's reference point; crate-compile --check says more")


def departures(findings: Sequence[Finding]) -> str:
    """One line per step: the relative error after each rule, in the order of the file."""
    lines: dict[str, list[str]] = defaultdict(list)
    for finding in findings:
        if finding.passed is None and "~" in finding.claim and finding.error is not None:
            lines[finding.place].append(f"{finding.claim.split(' ~ ')[0]} {finding.error:.2g}")
    return "\n".join(f"{place}: {', '.join(errors)}" for place, errors in lines.items()) or "exact"
