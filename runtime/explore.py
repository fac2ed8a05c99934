"""Train variants of a spec side by side: python -m runtime.explore SPEC --vary gram=softmax,none [key=value ...].

Every variant is the spec with some of its text changed, and is kept as a spec of its own.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

import crate_dsl
from runtime.command import Parser, run
from runtime.errors import Stopped, UserError
from runtime.network import kind_of
from runtime.recipe import recipes
from runtime.recipe.compiling import blaming_the_recipe
from runtime.recipe.schema import Recipe
from runtime.seeds import LARGEST
from runtime.storage.log import console, read_metrics
from runtime.storage.run_folder import RunFolder, unused
from runtime.variants import grid, plots, results, side_by_side
from runtime.variants.forecast import forecast
from runtime.variants.grid import Candidate
from runtime.variants.jobs import Job, Result, at_once, one_by_one
from runtime.variants.results import Results, Row

EPILOG = """things to vary: sites (gram=softmax,none), options of a step (norm=layer,none), sizes and reals (d=64,96),
energies (compress.by=rate,mine), initial values (init.U=orthogonal,linear); --list shows all that a spec offers"""


def parser() -> Parser:
    result = Parser(
        prog="python -m runtime.explore", description="Train variants of a spec side by side.", epilog=EPILOG
    )
    result.add_argument("words", nargs="*", metavar="SPEC key=value", help="the spec, and entries of the recipe")
    result.add_argument(
        "--vary", action="append", default=[], metavar="WHAT=VALUES", help="what takes which values; may be repeated"
    )
    result.add_argument("--recipe", help="a recipe of specs/recipes by name, or a YAML file; default: by the network")
    result.add_argument("--out", type=Path, help="the grid's folder; given again, what is finished there is kept")
    result.add_argument("--seeds", metavar="0,1", help="train each variant with these; default: the recipe's seed")
    result.add_argument("--jobs", type=int, default=1, metavar="N", help="train N variants at once; default: 1")
    what = result.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="print what can be varied in the spec, and train nothing")
    what.add_argument("--dry-run", action="store_true", help="compile and measure all variants, and train none")
    return result


def main(arguments: Sequence[str]) -> None:
    options = parser().parse_intermixed_args(arguments)
    spec = parser().one_spec(options.words)
    if options.list and options.vary:
        raise UserError("--list shows what can be varied and takes no --vary; --dry-run compiles and measures variants")
    source, kind = crate_dsl.compile_spec(spec).source, kind_of(spec)
    if options.list and kind not in recipes.DEFAULTS and not options.recipe:
        console().print(offered(spec, crate_dsl.Variations(source).choices, {}))
        return
    name = options.recipe or recipes.default(kind)
    recipe = recipes.load(recipes.find(name), [word for word in options.words if "=" in word])
    with blaming_the_recipe():
        base = crate_dsl.Variations(source, recipe.preset)
    if options.list:
        console().print(offered(spec, base.choices, recipe.sizes))
        return
    axes = grid.parse_axes(options.vary)
    if not axes:
        raise UserError(
            f"nothing is varied: --vary WHAT=VALUES; python -m runtime.explore {spec} --list shows what can be"
        )
    found = grid.candidates(base, axes, recipe)
    if options.dry_run:
        forecast(found, recipe.preset, f"{spec.name}, recipe {name}")
    else:
        explore(spec, name, recipe, found, options)


def offered(spec: Path, choices: Sequence[crate_dsl.Choice], sizes: Mapping[str, int | float]) -> Table:
    """What can be varied, where it stands, what stands there now, and what may."""
    table = Table(title=f"{spec} can be varied in", title_justify="left")
    for name in ("--vary", "in", "now", "to"):
        table.add_column(name, overflow="fold")
    for choice in choices:
        now = "" if choice.now is None else choice.now
        if not choice.step and choice.name in sizes:
            now = f"{sizes[choice.name]} (recipe)"
        table.add_row(choice.name, choice.step, now, choice.usage)
    return table


def explore(spec: Path, name: str, recipe: Recipe, found: Sequence[Candidate], options: Namespace) -> None:
    """Train what can be, and leave the table and the plot, also of a grid that is interrupted."""
    seeds = seeds_of(options.seeds, recipe)
    out = options.out or unused(f"explore-{spec.stem}")
    if options.jobs < 1:
        raise UserError(f"--jobs {options.jobs}: at least one at a time")
    rows = {candidate.name: Row(candidate) for candidate in found}
    gained = Results(spec.name, name, recipe.task.metric, recipe.task.larger_is_better, seeds, list(rows.values()))
    jobs = list(jobs_of(found, recipe, seeds, out))
    require_the_same(jobs, found, recipe.preset)
    require_grid_of(spec, out)
    announce(found, jobs, out)
    grid.write_specs((candidate for candidate in found if not candidate.problem), recipe.preset, out / "specs")
    progress = Progress(rows, gained, len(jobs))
    try:
        if options.jobs > 1:
            at_once(jobs, options.jobs, progress.started, progress.done)
        else:
            one_by_one(jobs, progress.started, progress.done)
    except Stopped as stopped:
        keep(gained, out)
        reason = str(stopped).split(";")[0]
        raise Stopped(f"{reason}; the same command with --out {out} goes on from here", stopped.signal) from None
    keep(gained, out)
    if not gained.trained:
        raise UserError("no variant could be trained")


def seeds_of(text: str | None, recipe: Recipe) -> tuple[int, ...]:
    if text is None:
        return (recipe.seed,)
    try:
        seeds = tuple(int(word) for word in text.split(","))
    except ValueError:
        seeds = ()
    if not seeds or min(seeds) < 0 or max(seeds) > LARGEST or len(set(seeds)) < len(seeds):
        raise UserError(f"--seeds {text}: different whole numbers are needed, for instance --seeds 0,1,2")
    return seeds


def jobs_of(found: Sequence[Candidate], recipe: Recipe, seeds: Sequence[int], out: Path) -> list[Job]:
    """Every variant with the first seed, then with the next."""
    jobs = []
    for seed in seeds:
        for candidate in (candidate for candidate in found if not candidate.problem):
            own = recipe.model_copy(update={"sizes": dict(candidate.sizes), "seed": seed})
            folder = out / "runs" / candidate.name / f"seed-{seed}"
            jobs.append(Job(candidate.variant.label, out / "specs" / f"{candidate.name}.crate", own, folder))
    return jobs


def require_the_same(jobs: Sequence[Job], found: Sequence[Candidate], preset: str | None) -> None:
    """Raises UserError where a folder holds another spec or recipe, before anything in it is written anew."""
    texts = {candidate.name: candidate.compilation(preset).resolved for candidate in found if not candidate.problem}
    for job in jobs:
        if (folder := RunFolder(job.folder)).recipe.exists():
            side_by_side.require_spec(folder, texts[job.spec.stem])
            side_by_side.require_recipe(folder, job.recipe)


def require_grid_of(spec: Path, out: Path) -> None:
    """Raises UserError where a folder holds the table of a grid of another spec, which would be lost."""
    other = results.spec_of(out)
    if other not in (None, spec.name):
        raise UserError(f"{out} holds a grid of {other}, not of {spec.name}: choose another --out")


def announce(found: Sequence[Candidate], jobs: Sequence[Job], out: Path) -> None:
    """The grid before anything is trained, with what will be left out."""
    for candidate in found:
        said = f"not trained: {candidate.problem}" if candidate.problem else f"{candidate.parameters:,} parameters"
        print(f"{candidate.variant.label}: {said}")
    print(f"{len(jobs)} runs, in {out}", flush=True)


class Progress:
    """Says what begins and what has ended, and puts it into the rows."""

    def __init__(self, rows: dict[str, Row], gained: Results, count: int) -> None:
        self.rows, self.gained, self.count, self.number = rows, gained, count, 0

    def started(self, job: Job) -> None:
        self.number += 1
        print(f"-- {self.number}/{self.count} {job.label}, seed {job.recipe.seed}", flush=True)

    def done(self, job: Job, result: Result) -> None:
        row, seed = self.rows[job.spec.stem], job.recipe.seed
        if isinstance(result, str):
            row.failures[seed] = result
            print(f"   {job.label}, seed {seed} failed: {result}", flush=True)
        else:
            row.outcomes[seed] = result
            metric = self.gained.metric
            print(
                f"   {job.label}, seed {seed}: {metric} {result.figures[metric]:.4g}, {result.seconds:.0f} s",
                flush=True,
            )


def keep(gained: Results, out: Path) -> None:
    """The table on the terminal, and table and plot in the folder."""
    results.write(gained, out)
    console().print(results.printed(gained))
    for problem in gained.problems:
        print(f"not trained: {problem}")
    print(f"table: {out / 'table.md'} (also .csv and .json)")
    lines = [plots.Line(row.candidate.variant.label, curves(row, gained.metric, out)) for row in gained.trained]
    if lines:
        files = plots.plot(lines, gained.metric, gained.larger_is_better, gained.title, out)
        print(f"plot: {', '.join(map(str, files))}")


def curves(row: Row, metric: str, out: Path) -> dict[int, list[tuple[int, float]]]:
    """The held-out metric by step, for every seed."""
    found = {}
    for seed in row.outcomes:
        entries = read_metrics(RunFolder(out / "runs" / row.candidate.name / f"seed-{seed}").metrics)
        found[seed] = [(entry["step"], entry[metric]) for entry in entries if entry["split"] == "held_out"]
    return found


if __name__ == "__main__":
    run(main, outlasts=True)
