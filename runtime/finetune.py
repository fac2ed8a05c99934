"""Train a network from the weights of another: python -m runtime.finetune RUN|WEIGHTS SPEC [--freeze] [key=value ...].

The encoder must fit as a whole: the encoder of an autoencoder into a classifier, the same spec with other classes, or
with another image size, for which learned positions are interpolated. A table says what was taken, what was initialised
anew and what is left over. It is `python -m runtime.train SPEC initialisation.weights=FILE`; the run folder keeps the
file's place and hash, and `--resume` is that of runtime.train.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from runtime import train
from runtime.command import Parser, run
from runtime.errors import UserError
from runtime.storage.trained import add_arguments, weights_file


def main(arguments: Sequence[str]) -> None:
    parser = Parser(prog="python -m runtime.finetune", description="Train a network from the weights of another.")
    add_arguments(parser)
    parser.add_argument("words", nargs="*", metavar="SPEC key=value", help="the spec, and entries of the recipe")
    parser.add_argument("--freeze", action="store_true", help="train the head alone, all else stays as taken")
    parser.add_argument("--out", help="the run's folder; default: a new one below runs/")
    options = parser.parse_intermixed_args(arguments)
    if any(word.partition("=")[0].startswith("initialisation") for word in options.words):
        raise UserError("initialisation is given by RUN|WEIGHTS and --freeze here")
    parser.one_spec(options.words)
    file = weights_file(Path(options.trained), options.weights)
    start = [f"initialisation.weights={json.dumps(str(file))}"]
    start += ["initialisation.freeze=true"] if options.freeze else []
    named = [("--recipe", options.recipe), ("--out", options.out)]
    train.main([*options.words, *start, *(part for pair in named if pair[1] for part in pair)])


if __name__ == "__main__":
    run(main, outlasts=True)
