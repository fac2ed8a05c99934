"""What every layer of a network does, as one page: python -m runtime.report RUN|WEIGHTS|GRID|SPEC [...] [--only NAME].

A RUN is the folder of a run, WEIGHTS a safetensors file of ours (of runtime.convert among them), GRID a folder of
runtime.explore, whose variants are laid side by side, as several networks are. A SPEC followed by a weights file is
the network of the spec with these weights, a SPEC alone the network as it is initialised.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.progress import Progress

from crate_dsl.errors import known
from runtime.command import Parser, run, settings
from runtime.errors import UserError
from runtime.instruments.catalogue import INSTRUMENTS
from runtime.instruments.naming import Asked, Named, named, require_masks, subject_named
from runtime.instruments.overview import FIGURES
from runtime.instruments.section import Cell, Section
from runtime.instruments.subject import Subject
from runtime.network import parameter_count
from runtime.pages.files import Measured, cleared, write_figures, write_numbers
from runtime.pages.side_by_side import side_by_side
from runtime.pages.web_page import page
from runtime.storage import checkpoint
from runtime.storage.log import console
from runtime.storage.run_folder import unused

EPILOG = "instruments: " + "; ".join(f"{name} ({each.title})" for name, each in INSTRUMENTS.items())


def parser() -> Parser:
    result = Parser(
        prog="python -m runtime.report", description="What every layer of a network does, as one page.", epilog=EPILOG
    )
    result.add_argument("words", nargs="+", metavar="RUN|WEIGHTS|GRID|SPEC key=value",
                        help="networks, and entries of the recipe (data, device)")  # fmt: skip
    result.add_argument("--weights", choices=("last", "best"), help="of runs, default: last; best: by their metric")
    result.add_argument("--recipe", help="a recipe by name or file; default: that of the run, or by the network")
    result.add_argument(
        "--data", metavar="NAME", help="another data source, with its own defaults; short for data=NAME"
    )
    result.add_argument("--preset", help="of a SPEC; default: that of the recipe")
    result.add_argument("--set", nargs="+", action="extend", default=[], metavar="name=value", dest="sizes",
                        help="sizes of a SPEC")  # fmt: skip
    result.add_argument("--only", nargs="+", metavar="INSTRUMENT", help="a part of the report; default: all of it")
    result.add_argument("--count", type=int, default=64, help="inputs of each split to measure on; default: 64")
    result.add_argument("--images", nargs="+", type=Path, default=[], metavar="PICTURE|FOLDER", dest="pictures",
                        help="pictures to look at, beside those of the data")  # fmt: skip
    result.add_argument(
        "--masks", type=Path, metavar="FOLDER", help="NAME.png, bright where picture NAME has its object"
    )
    result.add_argument("--out", type=Path, help="where to write; default: report/ in the run, or below runs/")
    return result


def main(arguments: Sequence[str]) -> None:
    options = parser().parse_intermixed_args(arguments)
    networks = named([Path(word) for word in options.words if "=" not in word])
    if not networks:
        raise UserError("no network is named: give a run, a weights file, a grid or a spec")
    if (options.preset or options.sizes) and all(each.spec is None for each in networks):
        raise UserError("the sizes of a trained network are fixed; --preset and --set are for a SPEC")
    if options.weights and not any(each.spec is None and each.path.is_dir() for each in networks):
        raise UserError(f"--weights {options.weights} chooses among the weights of a run, and no run is named")
    chosen = instruments(options.only)
    asked = asked_for(options)
    found = measured(networks, asked, chosen)
    out = cleared(options.out or place_for(networks, options.words))
    together = side_by_side(found)
    write_numbers(found, together, out)
    places = write_figures(found, together, out)
    title = networks[0].label if len(networks) == 1 else f"{len(networks)} networks"
    lead = f"Measured on at most {options.count} inputs of each split, unless a part says otherwise."
    checkpoint.replace_text(out / "report.html", page(title, lead, found, together, places))
    print(f"page: {out / 'report.html'}\nnumbers: {out / 'report.json'}, {out / 'tables'}\nfigures: {out / 'figures'}")


def asked_for(options: Namespace) -> Asked:
    if options.count < 1:
        raise UserError(f"--count is {options.count} and must be at least 1")
    if options.masks and not options.masks.is_dir():
        raise UserError(f"{options.masks}: no such folder of masks")
    if options.masks and not options.pictures:
        raise UserError("--masks are those of pictures that --images names, and none is named")
    if options.masks:
        require_masks(options.pictures, options.masks)
    overrides = [f"data={options.data}"] * bool(options.data) + [word for word in options.words if "=" in word]
    return Asked(
        options.weights, options.recipe, overrides, options.preset, settings(options.sizes), options.count,
        options.pictures, options.masks,
    )  # fmt: skip


def instruments(only: Sequence[str] | None) -> list[str]:
    """The names of what is to be measured, in the order of the report; raises UserError for unknown ones."""
    for name in only or ():
        if name not in INSTRUMENTS:
            raise UserError(f'--only: unknown instrument "{name}"; {known("instruments", name, INSTRUMENTS)}')
    return [name for name in INSTRUMENTS if not only or name in only]


def measured(networks: Sequence[Named], asked: Asked, chosen: Sequence[str]) -> list[Measured]:
    """Every network with what every instrument says of it, one at a time so that one is in memory."""
    found = []
    with Progress(console=console(), transient=True) as progress:
        bar = progress.add_task("", total=len(networks) * len(chosen))
        for each in networks:
            progress.update(bar, description=escape(each.label))
            subject = subject_named(each, asked)
            sections = []
            for name in chosen:
                progress.update(bar, description=escape(f"{each.label}: {INSTRUMENTS[name].title}"))
                sections.append(INSTRUMENTS[name].of(subject))
                progress.advance(bar)
            found.append(Measured(each.label, sections, facts(subject, sections)))
    return found


def facts(subject: Subject, sections: Sequence[Section]) -> dict[str, Cell]:
    """What stands in a row of the table of networks: name, size, weights, and the task's figures if they are known."""
    trained = subject.trained
    figures = (row for section in sections for sheet in section.sheets if sheet.name == FIGURES for row in sheet.rows)
    return {
        "name": subject.compilation.model.name,
        "parameters": parameter_count(subject.network),
        **{str(row[0]): row[1] for row in figures},
        "weights": str(trained.file) if trained else "as initialised",
    }


def place_for(networks: Sequence[Named], words: Sequence[str]) -> Path:
    """report/ in the folder of the one run or grid, else a new folder below runs/."""
    first = Path(words[0])
    if first.is_dir() and sum("=" not in word for word in words) == 1:
        return first / "report"
    return unused(f"report-{networks[0].label}" if len(networks) == 1 else "report")


if __name__ == "__main__":
    run(main)
