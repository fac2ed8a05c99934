"""Time, memory and accuracy of a compiled network beside others: python -m runtime.bench SPEC [--preset NAME] [...]."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from runtime.bench import plot, record, sweep, sweep_plot, sweep_table, table
from runtime.bench.case import Case, case
from runtime.bench.contestants import SAME, gather
from runtime.bench.forms import FORMS
from runtime.bench.measure import DTYPES, measure
from runtime.bench.progress import Bar
from runtime.bench.workload import workload
from runtime.command import Parser, run, settings
from runtime.errors import UserError
from runtime.scoring.measure import pick_device
from runtime.storage.log import console
from runtime.storage.run_folder import unused

DESCRIPTION = (
    "Measure a compiled network and its baselines in one process, in turns: forward pass, training step (forward, loss "
    "and backward pass; the optimiser is the same for all and left out), peak memory of a training step, and errors "
    "relative to float64. Medians with their range; ratios to the first baseline are taken round by round."
)

LISTS = {"tokens": "tokens of the operators", "heads": "heads K, of the same width p", "depths": "layers L"}


def parser() -> Parser:
    found = Parser(prog="python -m runtime.bench", description=DESCRIPTION)
    found.add_argument("spec", type=Path, metavar="SPEC")
    found.add_argument("--preset")
    found.add_argument("--set", nargs="+", action="extend", default=[], metavar="name=value", dest="sizes")
    found.add_argument("--batch", type=int, default=8, help="inputs of one pass (default: 8)")
    found.add_argument(
        "--baseline", nargs="+", choices=[*FORMS, "none"], default=["official"],
        help="what to compare with; ratios are to the first (default: official)",
    )  # fmt: skip
    found.add_argument("--compile", action="store_true", help="also network and first baseline under torch.compile")
    found.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    found.add_argument(
        "--dtype", choices=list(DTYPES), default="float32", help="bfloat16: weights in float32, products by autocast"
    )
    found.add_argument("--rounds", type=int, help="measurements of each contestant (default: 10; --sweep: 3)")
    found.add_argument("--threads", type=int, help="of torch on the processor (default: as torch chooses)")
    found.add_argument("--out", type=Path, metavar="DIR", help="default: a new folder below runs/")
    found.add_argument(
        "--sweep", action="store_true",
        help="how cost grows: of softmax attention, the exact rate and TSSA alone with the tokens, of the network with "
        "width and depth",
    )  # fmt: skip
    for name, what in LISTS.items():
        found.add_argument(f"--{name}", metavar="N,N,...", help=f"of --sweep: {what}")
    return found


def main(arguments: Sequence[str]) -> None:
    options = parser().parse_args(arguments)
    for name in ("batch", "rounds", "threads"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} {value}: give a number from 1 on")
    for name in LISTS:
        if getattr(options, name) and not options.sweep:
            raise UserError(f"--{name} belongs to --sweep: give both")
    device = pick_device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    (grow if options.sweep else race)(options, device)


def race(options: argparse.Namespace, device: torch.device) -> None:
    """The network against its baselines."""
    given = case(options.spec, options.preset, settings(options.sizes), device)
    baselines = chosen(options)
    work = workload(given.network, given.compiled.shape, options.batch, options.dtype)
    with Bar() as bar:
        field = gather(given, baselines, frozenset({"compile"} if options.compile else ()), work)
        out = record.folder(options.out or unused(f"bench-{options.spec.stem}"))
        measured = measure(given, field, work, options.rounds or 10, bar)
    title = title_of(options, given, device)
    about = record.about(given, options.batch, options.dtype, device)
    record.write(out, about | {"race": record.race_record(measured)})
    files = plot.plot(measured, title, out)
    screen = console()
    for found in table.tables(measured, title):
        screen.print(found)
    screen.print(table.FOOTNOTE)
    for doubt in table.doubts(measured):
        screen.print(doubt, style="red")
    if "official" in baselines:
        screen.print(table.verdict(field.difference, field.difference is not None and field.difference <= SAME))
    screen.print(f"{out / 'bench.json'}, {', '.join(path.name for path in files)}")


def grow(options: argparse.Namespace, device: torch.device) -> None:
    """How the cost of operators grows with the tokens, that of the network with its sizes."""
    lists = {
        name: sweep.numbers(getattr(options, name), f"--{name}") if getattr(options, name) else None for name in LISTS
    }
    given = case(options.spec, options.preset, settings(options.sizes), device)
    baselines, sizes = chosen(options), given.sizes
    with Bar() as bar:
        setting = sweep.Setting(options.batch, options.dtype, options.rounds or 3, device, bar)
        out = record.folder(options.out or unused(f"bench-{options.spec.stem}-sweep"))
        width = sweep.over_width(given, baselines, lists["heads"], setting)
        depth = sweep.over_depth(given, baselines, lists["depths"], setting)
        tokens = sweep.over_tokens(sizes.heads, sizes.head_width, lists["tokens"] or sweep.TOKENS, setting)
        axes = (tokens, width, depth)
    title = title_of(options, given, device)
    about = record.about(given, options.batch, options.dtype, device)
    record.write(out, about | {"sweep": record.sweep_record(axes)})
    files = sweep_plot.plot(axes, title, out)
    screen = console()
    for found in sweep_table.tables(axes):
        screen.print(found)
    screen.print(sweep_table.FOOTNOTE)
    screen.print(f"{title}\n{out / 'bench.json'}, {', '.join(path.name for path in files)}")


def chosen(options: argparse.Namespace) -> list[str]:
    """The baselines asked for, each once."""
    return list(dict.fromkeys(label for label in options.baseline if label != "none"))


def title_of(options: argparse.Namespace, given: Case, device: torch.device) -> str:
    preset = f", preset {options.preset}" if options.preset else ""
    count = torch.get_num_threads()
    where = f"{device}, {count} thread{'s' * (count > 1)}" if device.type == "cpu" else f"{device}"
    return f"{given.compiled.name}{preset}: batch {options.batch}, {options.dtype}, {where}"


if __name__ == "__main__":
    run(main)
