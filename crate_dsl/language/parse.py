"""Text -> syntax: `Source` in, `Spec` out, with every syntax error of the file in one run."""

from __future__ import annotations

from itertools import islice

from lark import Token, Tree
from lark.exceptions import UnexpectedToken

from crate_dsl.errors import CrateError, Diagnostic, Source, Span, fail
from crate_dsl.language.build import Builder
from crate_dsl.language.layout import Item, split, without_statement
from crate_dsl.language.mistakes import explain
from crate_dsl.language.place import Place
from crate_dsl.language.syntax import EnergyDeclaration, Include, Spec
from crate_dsl.language.tables import grammar

MAX_CHARACTERS = 1_000_000
MAX_TOKENS = 20_000
MAX_DIAGNOSTICS = 20


def parse(source: Source) -> Spec:
    """The syntax of a file.

    Raises:
        CrateError: with all syntax errors found; each item of a file is parsed by itself.
    """
    nodes, diagnostics = _nodes(source)
    networks = [node for node in nodes if isinstance(node, tuple)]
    if not diagnostics:
        diagnostics = _network_errors(source, networks)
    if diagnostics:
        raise CrateError(*sorted(diagnostics, key=_place)[:MAX_DIAGNOSTICS])
    name, description = networks[0]
    items = tuple(node for node in nodes if not isinstance(node, tuple))
    return Spec(source, name.name, description, items)


def parse_energies(source: Source) -> tuple[EnergyDeclaration | Include, ...]:
    """The energies of a file that is included, and what it includes itself.

    Raises:
        CrateError: with all syntax errors, and for every line that belongs into a spec.
    """
    nodes, diagnostics = _nodes(source)
    for node in nodes:
        if not isinstance(node, EnergyDeclaration | Include):
            span = node[0].span if isinstance(node, tuple) else node.span
            word = "network" if isinstance(node, tuple) else span.text.split()[0]
            hint = "it may hold energies and further includes; everything else belongs into the spec"
            diagnostics.append(Diagnostic(f'a "{word}" line in an included file', span, hint))
    if diagnostics:
        raise CrateError(*sorted(diagnostics, key=_place)[:MAX_DIAGNOSTICS])
    return tuple(nodes)


def _nodes(source: Source) -> tuple[list, list[Diagnostic]]:
    """The items of a file, a "network" line as a pair, and what is wrong with the others."""
    if len(source.text) > MAX_CHARACTERS:
        raise fail(f"{source.name} has more than {MAX_CHARACTERS:,} characters", hint="no network needs so many")
    builder, nodes, diagnostics = Builder(source), [], []
    for item in split(_tokens(source)):
        try:
            nodes.append(builder.build(_parse_item(source, item)))
        except CrateError as error:
            diagnostics += error.diagnostics
        if len(diagnostics) >= MAX_DIAGNOSTICS:
            break
    return nodes, diagnostics


def _tokens(source: Source) -> list[Token]:
    tokens = list(islice(grammar().lex(source.text), MAX_TOKENS + 1))
    if len(tokens) > MAX_TOKENS:
        raise fail(
            f"{source.name} has more than {MAX_TOKENS:,} words", hint="the networks known so far need a few hundred"
        )
    return tokens


def _place(diagnostic: Diagnostic) -> int:
    return diagnostic.span.start if diagnostic.span else -1


def _network_errors(source: Source, networks: list) -> list[Diagnostic]:
    if not networks:
        hint = 'a file starts with its name: network Crate "what it is"'
        return [Diagnostic('there is no "network" line', Span(source, 0, 0), hint)]
    first = networks[0][0]
    return [
        Diagnostic(
            'a second "network" line', name.span, "a file states one network", ((first.span, "the first is here"),)
        )
        for name, _ in networks[1:]
    ]


def _parse_item(source: Source, item: Item) -> Tree:
    """The tree of an item.

    Raises:
        CrateError: after an error the statement that holds it is dropped and the rest read again, for further ones.
    """
    diagnostics: list[Diagnostic] = []
    while True:
        outcome = _attempt(item)
        if isinstance(outcome, Tree):
            break
        place = Place(source, item, *outcome)
        if diagnostics and item.unclosed and place.kind == "$END":
            break  # very likely a consequence
        diagnostics.append(explain(place))
        rest = without_statement(item.tokens, place.index)
        if rest is None or len(diagnostics) >= MAX_DIAGNOSTICS:
            break
        item = Item(rest, item.unclosed)
    if diagnostics:
        raise CrateError(*diagnostics)
    return outcome


def _attempt(item: Item) -> Tree | tuple[int, frozenset[str]]:
    """The tree, or the place where it went wrong with the terminals that would have been right."""
    parser = grammar().parse_interactive()
    for index, token in enumerate((*item.tokens, Token.new_borrow_pos("$END", "", item.tokens[-1]))):
        try:
            result = parser.feed_token(token)
        except UnexpectedToken:
            return index, _accepted(item.tokens[:index])
    return result


def _accepted(tokens: tuple[Token, ...]) -> frozenset[str]:
    """What may follow; read afresh, since a parser has reduced too much by the time it meets an error."""
    parser = grammar().parse_interactive()
    for token in tokens:
        parser.feed_token(token)
    return frozenset(parser.accepts())
