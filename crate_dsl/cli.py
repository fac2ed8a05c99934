"""crate-compile: a spec in, a derivation, a certificate, a table or a PyTorch file out."""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
from difflib import get_close_matches
from pathlib import Path
from pprint import pformat
from typing import NoReturn

from crate_dsl.certificate import certificate
from crate_dsl.compiler import VERSION, Compilation, compile_spec
from crate_dsl.errors import CompilerBug, CrateError, fail, harmless, show_what_can_be_shown
from crate_dsl.library.standard import listing
from crate_dsl.mathematics import explain, page
from crate_dsl.operators.cost import BATCH, table
from crate_dsl.operators.program import Program
from crate_dsl.operators.speed import emitted, speed
from crate_dsl.pictures.picture import writer_of
from crate_dsl.startup import INTERRUPTED, interrupt_as_usual

STAGES = ("spec", "model", "derivation", "graph", "passes", "optimised", "source")
EXAMPLES = """examples:
  crate-compile specs/crate_mae.crate -o model.py            write the PyTorch file
  crate-compile specs/crate.crate --preset tiny --summary    parameters and FLOPs per step
  crate-compile specs/crate.crate --explain -o crate.html    the derivation as a page
  crate-compile specs/crate.crate --explain-speed            what each pass gained
  crate-compile specs/crate_exact.crate --check              verify it numerically
  crate-compile --energies                                   the energies of the standard library
  crate-compile specs/crate_mae.crate --graph mae.svg        the unrolled network as a picture
  crate-compile specs/crate.crate --set d=384 K=6 eta=0.2 -o model.py
"""


class Parser(argparse.ArgumentParser):
    """argparse with exit status 1 and suggestions for misspelt options."""

    def error(self, message: str) -> NoReturn:
        for word in (word.strip(":,'") for word in message.split()):
            near = get_close_matches(word, self._option_string_actions, n=1) if word.startswith("--") else []
            if near and word not in self._option_string_actions:
                message += f". Did you mean {near[0]}?"
        given = [word for word in message.partition("unrecognized arguments:")[2].split() if "=" in word]
        if given and not given[0].startswith("-"):
            name, _, value = given[0].partition("=")
            right = f"--preset {value}" if name == "preset" else f"--set {given[0]}"
            message += f". Did you mean {right}?"
        self.print_usage(sys.stderr)
        self.exit(1, f"{self.prog}: {message}\n")


def parser() -> Parser:
    result = Parser(
        prog="crate-compile",
        description="Compile a .crate specification of a white-box network to a readable torch.nn file.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("spec", nargs="?", help="a .crate file")
    result.add_argument("-o", "--output", metavar="FILE", help="where to write; without it, or with -, standard output")
    result.add_argument("--preset", metavar="NAME", help="a named set of sizes of the spec")
    result.add_argument(
        "--set", metavar="NAME=VALUE", nargs="+", action="extend", default=[], help="override sizes and reals"
    )
    result.add_argument(
        "--freeze", action="store_true",
        help="for inference: what is made of weights alone is computed once, when weights are loaded",
    )  # fmt: skip
    result.add_argument(
        "--gpu", action="store_true", help="with kernels of Triton, where they are faster; the file then needs Triton"
    )
    what = result.add_mutually_exclusive_group()
    what.add_argument(
        "--explain", action="store_true", help="the derivation: text, or a page with -o x.md, .tex, .html"
    )
    what.add_argument("--explain-speed", action="store_true", help="what each pass gained: text, or -o x.txt, .md")
    what.add_argument("--check", action="store_true", help="verify every exact step, measure every approximation")
    what.add_argument(
        "--energies", action="store_true", help="list the energies that a spec can include by name; no spec is needed"
    )
    what.add_argument("--emit", choices=STAGES, metavar="STAGE", help=f"print a stage: {', '.join(STAGES)}")
    result.add_argument(
        "--batch", metavar="N", default=str(BATCH), help=f"inputs at a time, to decide for and to count ({BATCH})"
    )
    result.add_argument("--summary", action="store_true", help="a table of parameters and FLOPs per step")
    result.add_argument(
        "--graph", metavar="FILE", action="append", default=[],
        help="draw the unrolled network, formulas, sizes and costs: FILE.svg, .mmd (Mermaid) or .dot; may repeat",
    )  # fmt: skip
    result.add_argument("--traceback", action="store_true", help="show where a failure of the compiler itself arose")
    result.add_argument("--version", action="version", version=f"crate-compile {VERSION}")
    return result


def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    show_what_can_be_shown()
    options = parsed(arguments)
    try:
        return run(options)
    except CrateError as error:
        print(harmless(str(error)), file=sys.stderr)  # it may quote a file
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if options.traceback:
            raise
        bug = error if isinstance(error, CompilerBug) else CompilerBug(f"{type(error).__name__}: {error}")
        print(f"{bug}\n(run again with --traceback to see where)", file=sys.stderr)
    return 1


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """The options, of which all but the list of energies are about a spec."""
    known = parser()
    options = known.parse_args(arguments)
    if options.energies and (options.spec or options.summary or options.graph):
        known.error("--energies lists the standard library and stands alone, or with -o")
    if not (options.spec or options.energies):
        known.error("the following arguments are required: spec")
    return options


def run(options: argparse.Namespace) -> int:
    """Do what the options ask for."""
    if options.energies:
        deliver(listing(), options.output)
        return 0
    for path in options.graph:
        writer_of(path)  # an unknown ending is told before anything is written
    compilation = compile_spec(
        options.spec, options.preset, overrides(options.set), batch(options.batch), options.freeze, options.gpu
    )
    for warning in compilation.model.warnings:
        print(f"{warning}\n", file=sys.stderr)
    for path in options.graph:
        deliver(compilation.picture(path), path)
    if options.check:
        text, passed = certificate(compilation)
        deliver(text, options.output)
        return 0 if passed else 1
    if options.explain:
        deliver(explanation(compilation, options.output), options.output)
    elif options.explain_speed:
        deliver(speeds(compilation, options.output), options.output)
    elif options.emit:
        deliver(stage(compilation, options.emit), options.output)
    elif options.output or not (options.summary or options.graph):
        deliver(compilation.text, options.output)
    if options.summary:
        print(compilation.costs)
    return 0


def overrides(settings: list[str]) -> dict[str, str]:
    """`name=value` words as a mapping; values stay text, the checker reads them exactly."""
    result = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not (name and equals and value):
            raise fail(f'--set takes name=value, not "{setting}"', None, "for instance --set d=384 K=6 eta=0.2")
        result[name.strip().removeprefix("sizes.")] = value.strip()  # as recipes write it
    return result


def batch(text: str) -> int:
    """The number of inputs at a time."""
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text)):
        raise fail(f'--batch takes a positive whole number, not "{text}"')
    return int(text)


def explanation(compilation: Compilation, output: str | None) -> str:
    """The derivation in the format that the file's ending asks for."""
    writers = {"": explain.text, ".txt": explain.text, ".md": explain.markdown, ".tex": page.tex, ".html": page.html}
    ending = Path(output).suffix if output else ""
    if ending not in writers:
        raise fail(f'no explanation in the format "{ending}"', None, "endings: .txt, .md, .tex, .html")
    return writers[ending](compilation.derivation)


def speeds(compilation: Compilation, output: str | None) -> str:
    """What each pass gained, as text; in Markdown as it stands."""
    ending = Path(output).suffix if output else ""
    if ending not in ("", ".txt", ".md"):
        raise fail(f'no table of speed in the format "{ending}"', None, "endings: .txt, .md")
    text = speed(compilation.program, compilation.optimised, compilation.workload)
    return f"```text\n{text}```\n" if ending == ".md" else text


def stage(compilation: Compilation, name: str) -> str:
    """One intermediate of the pipeline as text."""
    match name:
        case "graph":
            return tables(compilation.program, compilation.batch)
        case "passes":
            _ = compilation.optimised  # where a pass refuses, this says so of the line in the spec
            return emitted(compilation.program, compilation.workload)
        case "optimised":
            return tables(compilation.optimised, compilation.batch)
        case "source":
            return compilation.text
    return pretty(getattr(compilation, name))


def tables(program: Program, batch: int) -> str:
    """Every graph with shape, operations and bytes of its operators."""
    return "\n\n".join(table(graph, batch) for graph in program.graphs) + "\n"


def pretty(value: object) -> str:
    return pformat(value, width=120, compact=True) + "\n"


def deliver(text: str, output: str | None) -> None:
    """Print, or write the file as a whole: a temporary file beside it, then a rename."""
    if output in (None, "-"):  # as elsewhere, a dash is standard output
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        return
    target = Path(os.path.realpath(output))  # of a link, what it leads to
    try:
        if target.is_dir():
            raise fail(f'cannot write "{output}": it is a folder', None, "give the name of a file")
        if target.exists() and not target.is_file():  # a pipe or a device
            target.write_text(text, encoding="utf-8")
        else:
            replace_file(target, text)
    except OSError as error:
        raise fail(f'cannot write "{output}": {error.strerror}', None, "choose a file in a writable folder") from None
    print(f"wrote {output}", file=sys.stderr)


def replace_file(target: Path, text: str) -> None:
    """Write a file beside the target, with the rights that this has or would have, and put it in its place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    umask = os.umask(0)
    os.umask(umask)
    with tempfile.NamedTemporaryFile("w", dir=target.parent, delete=False, encoding="utf-8") as file:
        try:
            file.write(text)
            file.flush()
            os.chmod(file.name, target.stat().st_mode if target.exists() else 0o666 & ~umask)
            os.replace(file.name, target)
        except BaseException:
            os.unlink(file.name)
            raise


def entry() -> NoReturn:
    """The console script: a short-lived process, of which collecting and tearing down objects would take a quarter."""
    interrupt_as_usual()
    gc.disable()
    status = main()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


if __name__ == "__main__":
    entry()
