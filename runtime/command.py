"""What all commands share: how they read their arguments, and how each of their failures becomes one message.

A message goes to stderr with exit status 1; a user never sees a traceback.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TextIO

from crate_dsl import CrateError
from crate_dsl.errors import harmless, show_what_can_be_shown
from crate_dsl.startup import INTERRUPTED, interrupt_as_usual
from runtime.errors import Quiet, Stopped, UserError


class Parser(argparse.ArgumentParser):
    """An argument parser whose mistakes are `UserError`s like all others."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}{self.spelling(message)}\n{self.format_usage().strip()}")

    def spelling(self, message: str) -> str:
        """How this command takes a preset and sizes, where they were given as another one takes them."""
        words = message.partition("unrecognized arguments:")[2].split()
        named = {word.partition("=")[0] for word in words} & {"--preset", "--set"}
        takes = " ".join(str(action.metavar or action.dest) for action in self._actions).lower()
        if "--set" in self._option_string_actions:
            given = any("=" in word for word in words)
            return "\nhere a preset and sizes are options: --preset NAME --set NAME=VALUE" if given else ""
        if not named or "spec" not in takes or "key=value" not in takes:
            return ""
        if "--preset" in self._option_string_actions:
            return "\nhere sizes stand by themselves: NAME=VALUE"
        return "\nhere a preset and sizes are entries of the recipe: preset=NAME sizes.NAME=VALUE"

    def one_spec(self, words: Sequence[str]) -> Path:
        """The only word that is no key=value; raises UserError where there are several or none."""
        specs = [word for word in words if "=" not in word]
        if len(specs) != 1:
            self.error(f"one spec is needed, {len(specs)} were given")
        return Path(specs[0])


def settings(words: Sequence[str]) -> dict[str, int | float]:
    """Sizes and reals of `--set name=value`."""
    values = {}
    for word in words:
        name, sign, text = word.partition("=")
        value = number(text) if sign else None
        if value is None:
            hint = f"; a preset is chosen by --preset {text}" if name == "preset" else ""
            raise UserError(f'--set: "{word}" is not of the form name=number{hint}')
        values[name.removeprefix("sizes.")] = value  # as recipes write it
    return values


def number(text: str) -> int | float | None:
    """What a text says, None where it is no finite number."""
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        return value if math.isfinite(value) else None
    return None


def run(main: Callable[[Sequence[str]], None], outlasts: bool = False) -> NoReturn:
    """Run a command and leave with its exit status; every foreseen failure is one message.

    One that trains outlasts what reads its output.
    """
    interrupt_as_usual()
    show_what_can_be_shown()
    if outlasts:
        sys.stdout = Outlasting(sys.stdout)
    try:
        main(sys.argv[1:])
    except (UserError, CrateError) as error:
        leave(f"{error}", 1)
    except Quiet:
        sys.exit(1)
    except Stopped as stopped:
        leave(f"{stopped}", 128 + stopped.signal)
    except KeyboardInterrupt:
        leave("interrupted", INTERRUPTED)
    except RecursionError:
        leave("something that was read is nested too deeply", 1)
    except MemoryError:
        leave("not enough memory: smaller sizes, a smaller batch or less data are needed", 1)
    except UnicodeEncodeError as error:
        leave(f"a name that is not UTF-8: {error.object!r}", 1)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away, as `| head` does
        sys.exit(0)
    except OSError as error:
        leave(f"{error.filename or 'file'}: {error.strerror or error}", 1)
    sys.exit(0)


class Outlasting:
    """An output that goes nowhere once its reader has gone, so that a run of hours outlives a pager."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self._let_go_of_reader(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._let_go_of_reader(self._stream.flush)

    def _let_go_of_reader(self, act: Callable[[], object]) -> None:
        try:
            act()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


def leave(message: str, status: int) -> NoReturn:
    print(harmless(message), file=sys.stderr)  # it may quote a file
    sys.exit(status)
