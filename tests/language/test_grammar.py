"""The grammar has no conflicts: lark resolves a shift/reduce conflict silently, so it is asked to say so."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from lark import Lark

from crate_dsl.language import tables
from crate_dsl.language.build import Builder
from crate_dsl.language.tables import GRAMMAR, grammar
from crate_dsl.language.wording import KINDS, SIGNS, keyword, word

AMBIGUOUS = """
start: "if" start "else" start | "if" start | "x"
"""


def conflicts(text: str, start: str, caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.DEBUG, logger="lark"):
        Lark(text, start=start, parser="lalr", lexer="basic", debug=True)
    return [record.getMessage() for record in caplog.records if "conflict" in record.getMessage().lower()]


def test_no_conflicts(caplog: pytest.LogCaptureFixture) -> None:
    assert conflicts(GRAMMAR.read_text(encoding="utf-8"), "item", caplog) == []


def test_a_conflict_would_be_noticed(caplog: pytest.LogCaptureFixture) -> None:
    assert conflicts(AMBIGUOUS, "start", caplog)


def test_the_kept_tables_are_those_of_the_grammar() -> None:
    """Parsers made from the same grammar number their states differently, so they are compared by what they parse."""
    text = GRAMMAR.read_text(encoding="utf-8")
    kept, made = tables.kept(text), tables.made(text)
    assert kept, 'run: python -c "from crate_dsl.language.tables import write; write()"'
    assert {str(rule) for rule in kept.rules} == {str(rule) for rule in made.rules}
    assert {(t.name, t.pattern.value) for t in kept.terminals} == {(t.name, t.pattern.value) for t in made.terminals}
    energy = "energy f(Z: d x N | U: K of d x p) = 1/2 * sum(k in K) norm2(U[k]' * Z) - trace(Z * Z')"
    for line in (energy, "encoder repeat L { compress Z by f(Z, U) { norm layer; step 2 * kappa } }"):
        assert kept.parse(line) == made.parse(line)


def test_tables_of_another_grammar_are_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = GRAMMAR.read_text(encoding="utf-8")
    assert tables.kept(text + "\n// changed") is None
    monkeypatch.setattr(tables, "TABLES", tmp_path / "grammar.json")
    assert tables.kept(text) is None
    tables.write()
    assert tables.kept(text).parse("size d = 8") == tables.made(text).parse("size d = 8")


def test_every_terminal_has_human_words() -> None:
    reported = {"NEWLINE", "FOREIGN_NAME", "OPEN_STRING", "UNKNOWN"}
    for terminal in grammar().terminals:
        if terminal.name.startswith("__IGNORE"):
            continue
        assert not terminal.name.startswith("__"), f"{terminal} has no name"
        assert terminal.name in {*SIGNS, *KINDS, *reported} or keyword(terminal.name)
        assert terminal.name in reported or terminal.name not in word(terminal.name)


def test_every_rule_is_built() -> None:
    """A rule without a method would leave a raw tree among the nodes."""
    rules = {rule.alias or rule.origin.name for rule in grammar().rules if not rule.options.expand1 or rule.alias}
    named = {str(name) for name in rules if not str(name).startswith("_")}
    assert {name for name in named if not hasattr(Builder, name)} == set()
