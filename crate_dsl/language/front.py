"""What surrounds the mathematics: input, tokens, mask, head, norms between blocks, and their initial values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from crate_dsl.errors import Span, known
from crate_dsl.language import syntax
from crate_dsl.language.convolutions import check_convolutions
from crate_dsl.language.inputs import HEADS, IMAGE, INPUT_KINDS, STEMS, VECTORS, WHOLE, InputKind
from crate_dsl.language.model import TAKEN, Head, TokensModel, Word
from crate_dsl.language.report import Report, within
from crate_dsl.language.sizes import Scope
from crate_dsl.language.vectors import check_vectors
from crate_dsl.language.vocabulary import Vocabulary
from crate_dsl.language.words import word_of

EXAMPLES = {
    "input": "input image(channels, height, width)",
    "tokens": "tokens Z: d x N = patches(patch) + class_token + position(learned)",
    "head": "head classify(classes) of class_token, or head patches",
}


@dataclass(frozen=True)
class Front:
    """The checked surroundings; None where something is missing or wrong."""

    input: Word | None
    tokens: TokensModel | None
    mask: Word | None
    head: Head | None
    inits: Mapping[str, Word]


def only(spec: syntax.Spec, kind: type[syntax.Line], word: str, report: Report) -> syntax.Line | None:
    """The one line of a kind; complains about a second, and about none where there must be one."""
    lines = spec.all(kind)
    for line in lines[1:]:
        place, first = within(line.span, word), within(lines[0].span, word)
        report.error(f'a second "{word}" line', place, "only one is allowed", [(first, "the first is here")])
    if not lines and word in EXAMPLES:
        report.error(f'there is no "{word}" line', spec.source.end, f"add one: {EXAMPLES[word]}")
    return lines[0] if lines else None


def check_front(spec: syntax.Spec, scope: Scope, vocabulary: Vocabulary, report: Report) -> Front:
    """Input, tokens, mask, head and initial values, with the number of tokens."""
    input_line = only(spec, syntax.Input, "input", report)
    tokens_line = only(spec, syntax.TokensLine, "tokens", report)
    given = word_of("input", input_line.word, vocabulary.inputs, scope, report) if input_line else None
    kind = INPUT_KINDS.get(input_line.word.name) if input_line else None
    tokens = _tokens(tokens_line, given, kind, scope, vocabulary, report) if tokens_line else None
    stems = {term.name for term in tokens_line.terms} if tokens_line else set()
    if spec.all(syntax.ClassLine):
        stems.add("class_token")
    mask_line = only(spec, syntax.MaskLine, "mask", report)
    mask = word_of("mask", mask_line.word, vocabulary.masks, scope, report) if mask_line else None
    head_line = only(spec, syntax.HeadLine, "head", report)
    head = _head(head_line, stems, kind, scope, vocabulary, report) if head_line else None
    if mask_line:
        _check_mask(mask_line, spec, stems, kind or IMAGE, head_line, report)
    targets = _targets(stems, tokens_line, mask_line, head_line)
    inits = {}
    for line in spec.all(syntax.InitLine):
        _init(line, targets, inits, scope, vocabulary, report)
    return Front(given, tokens, mask, head, inits)


# ---- tokens ----------------------------------------------------------------------------------------------------------


def _tokens(
    line: syntax.TokensLine,
    given: Word | None,
    kind: InputKind | None,
    scope: Scope,
    vocabulary: Vocabulary,
    report: Report,
) -> TokensModel | None:
    rows, cols = _tokens_axes(line, scope, report)
    words = []
    for term in line.terms:
        if any(term.name == other.name for other in words if other):
            report.error(f'"{term.name}" stands twice', term.span, "once is enough")
        words.append(word_of("source", term, vocabulary.stems, scope, report))
        if kind:
            _check_stem(term, kind, report)
    sources = [word for word in words if word and word.name in STEMS]
    if not sources and None not in words:
        wanted = kind or IMAGE
        report.error("the tokens come from nowhere", line.span, f"add {wanted.stem}: {wanted.example}")
        return None
    if None in words or rows is None or cols is None:
        return None
    position = next((word for word in words if word.name == "position"), None)
    if kind is VECTORS:
        if given is None or not check_vectors(line, words, given, scope, report):
            return None
    elif position and kind is not IMAGE and "fourier" in position.arguments:
        report.error("fourier positions are those of a grid", position.span, "write position(learned)")
    elif position and "sincos" in position.arguments:
        _check_sincos(position, STEMS[sources[0].name], rows, scope, report)
    for second in sources[1:]:
        report.error("the tokens come from two places", second.span, f"{sources[0].name} or {second.name}, one of them")
    if sources[0].name == "convolutions" and not check_convolutions(sources[0], rows, scope, report):
        return None
    fits = given is not None and kind is STEMS[sources[0].name]
    count = kind.count(sources[0], given, report) if fits else None
    if count is None:
        return None
    extra = sum(word.name == "class_token" for word in words)
    return TokensModel(line.name, rows, cols, tuple(words), count, count + extra)


def _check_stem(term: syntax.Call, kind: InputKind, report: Report) -> None:
    """A word of the tokens line must fit what is read."""
    if term.name in kind.refused:
        report.error(f"{kind.name} has no {term.name}", term.span, kind.refused[term.name])
    elif STEMS.get(term.name, kind) is not kind:
        message = f'"{term.name}" reads {STEMS[term.name].name}, and the input is {kind.name}'
        report.error(message, term.span, f"write: {kind.example}")


def _check_sincos(position: Word, kind: InputKind, rows: str, scope: Scope, report: Report) -> None:
    step = 2 * kind.coordinates
    if scope.values.get(rows, step) % step:
        said = "two coordinates" if kind.coordinates == 2 else "one coordinate"
        hint = f"{rows} = {scope.values[rows]} does not divide by {step} (sines and cosines of {said})"
        report.error("sincos positions do not fit", position.span, hint, _origin(rows, scope))


def _origin(name: str, scope: Scope) -> list[tuple[Span, str]]:
    return [(scope.origins[name], f"{name} comes from here")] if name in scope.origins else []


def _tokens_axes(line: syntax.TokensLine, scope: Scope, report: Report) -> tuple[str | None, str | None]:
    dimensions = line.dimensions
    if line.name in {d.name for d in scope.declared} or line.name in TAKEN:
        place = within(line.span, line.name)
        report.error(f'the tokens cannot be called "{line.name}"', place, "the name has a meaning already")
    if dimensions.rows is None or dimensions.cols is None or dimensions.family is not None:
        report.error("tokens are one matrix", dimensions.span, "write features x tokens: tokens Z: d x N = ...")
        return None, None
    rows = cols = None
    if not isinstance(dimensions.rows, syntax.Name):
        report.error(
            "the rows of the tokens need a name", dimensions.rows.span, "declare a size for the features: size d = 384"
        )
    elif dimensions.rows.name not in scope.names("size"):
        hint = known("sizes", dimensions.rows.name, scope.names("size"))
        report.error(f'unknown size "{dimensions.rows.name}"', dimensions.rows.span, hint)
    else:
        rows = dimensions.rows.name
    if not isinstance(dimensions.cols, syntax.Name):
        report.error(
            "the number of tokens follows from the input", dimensions.cols.span, "write a new name for it: d x N"
        )
    elif dimensions.cols.name != scope.tokens_axis:
        name = dimensions.cols.name
        first = next((d.span for d in scope.declared if d.name == name), None)
        hint = f'this line gives "{name}" its value: it follows from the input and the patches'
        report.error(f'"{name}" is declared already', dimensions.cols.span, hint, [(first, "here")] if first else [])
    else:
        cols = dimensions.cols.name
    return rows, cols


# ---- mask and head ---------------------------------------------------------------------------------------------------


def _check_mask(
    line: syntax.MaskLine,
    spec: syntax.Spec,
    stems: set[str],
    kind: InputKind,
    head: syntax.HeadLine | None,
    report: Report,
) -> None:
    if "convolutions" in stems:
        hint = "they read its neighbours too, which would show it: write patches(patch)"
        report.error("a mask does not hide a patch from convolutions", line.span, hint)
    elif kind.stem not in stems and stems:
        hint = f"a mask removes what comes from the input: {kind.example}"
        report.error(f"there are no {kind.units} to mask", line.span, hint)
    elif kind is VECTORS:
        report.error("vectors cannot be masked", line.span, "a mask removes patches, or the tokens of a text")
        return
    blocks = [block.role for block in spec.all(syntax.BlockDeclaration | syntax.InverseDeclaration)]
    if line.before not in blocks:
        hint = f"the blocks here: {', '.join(blocks)}" if blocks else ""
        report.error(f'there is no "{line.before}" to mask before', within(line.span, line.before), hint)
    elif blocks[0] != line.before:
        place = within(line.span, line.before)
        report.error(
            f"the {line.before} is not the first block", place, f"masking stands before the first: {blocks[0]}"
        )
    if head and head.word.name != kind.head:
        note = (line.span, "the mask is here")
        report.error(f"a masked network predicts its {kind.units}", head.word.span, f"write: head {kind.head}", [note])


def _head(
    line: syntax.HeadLine,
    stems: set[str],
    kind: InputKind | None,
    scope: Scope,
    vocabulary: Vocabulary,
    report: Report,
) -> Head | None:
    word = word_of("head", line.word, vocabulary.heads, scope, report)
    if word is None:
        return None
    if word.name == WHOLE:
        if line.of:
            report.error("a head of tokens reads them all", line.of.span, f'leave "of {line.of.name}" out')
    elif word.name in HEADS:
        if kind and HEADS[word.name] is not kind:
            message = f'"{word.name}" gives {HEADS[word.name].name} back, and the input is {kind.name}'
            report.error(message, line.word.span, f"write: head {kind.head}")
        elif line.of:
            message = f"a head of {word.name} reads all {HEADS[word.name].units}"
            report.error(message, line.of.span, f'leave "of {line.of.name}" out')
    elif line.of is None:
        hint = "add: " + ", or: ".join(f"of {pool}" for pool in vocabulary.pools)
        report.error(f'"{word.name}" must say what it reads', line.word.span, hint)
    elif line.of.name not in vocabulary.pools:
        report.error(
            f'a head cannot read "{line.of.name}"', line.of.span, known("pools", line.of.name, vocabulary.pools)
        )
    elif line.of.name == "class_token" and stems and "class_token" not in stems:
        stem = "patches(patch)" if kind in (None, IMAGE) else kind.stem
        hint = f"add it to the tokens, {stem} + class_token, or write: of mean"
        hint = "write: of mean" if kind and "class_token" in kind.refused else hint
        report.error("there is no class_token to read", line.of.span, hint)
    return Head(word, line.of.name if line.of else None)


# ---- initial values --------------------------------------------------------------------------------------------------


def _targets(
    stems: set[str], tokens: syntax.TokensLine | None, mask: syntax.MaskLine | None, head: syntax.HeadLine | None
) -> dict[str, bool]:
    """What can be initialised at the top, and whether it is there."""
    position = next((term for term in tokens.terms if term.name == "position"), None) if tokens else None
    learned = position is not None and any(getattr(a, "name", "") == "learned" for a in position.arguments)
    return {
        "class_token": "class_token" in stems,
        "position": learned,
        "mask_token": mask is not None,
        "head": head is not None and head.word.name not in (WHOLE, "features") and not _is_tied(head.word),
        "patches": "patches" in stems,
        "embedding": "embedding" in stems,
    }


def _is_tied(word: syntax.Call) -> bool:
    """Whether a head has no parameters of its own."""
    return any(getattr(argument, "name", "") == "tied" for argument in word.arguments)


def _init(
    line: syntax.InitLine,
    targets: dict[str, bool],
    inits: dict[str, Word],
    scope: Scope,
    vocabulary: Vocabulary,
    report: Report,
) -> None:
    place = within(line.span, line.name, occurrence=1 if line.name == "init" else 0)
    if line.name not in targets:
        step = 'A matrix of a step is initialised in its block: "init U orthogonal"'
        hint = f"{known('targets', line.name, targets)} {step}"
        report.error(f'"{line.name}" cannot be initialised here', place, hint)
    elif not targets[line.name]:
        hints = {
            "position": "positions are fixed unless they say position(learned)",
            "head": "a head of tokens or features has no parameters; a tied one is the embedding: init embedding ...",
        }
        hint = hints.get(line.name, "")
        report.error(f"there is no learned {line.name} to initialise", place, hint)
    elif line.name in inits:
        note = (inits[line.name].span, "the first is here")
        report.error(f'"{line.name}" is initialised twice', place, "", [note] if note[0] else [])
    word = word_of("initial value", line.word, vocabulary.inits, scope, report)
    if word and line.name in targets:
        inits.setdefault(line.name, replace(word, span=line.span))
