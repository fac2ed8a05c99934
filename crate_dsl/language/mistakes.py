"""The commonest syntax mistakes, each recognised by a short rule and answered in a sentence.

A rule looks at the place where the parser stopped and returns a diagnostic or None; the first that answers wins. What
no rule knows gets the general message: what was found, what could stand there, and the nearest keyword.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches

from crate_dsl.errors import Diagnostic
from crate_dsl.language.layout import CLOSING, ITEM_WORDS, OPERATORS, OPTION_WORDS, VERBS
from crate_dsl.language.place import Place
from crate_dsl.language.wording import expectation, foreign_name, keyword, unknown_character, word

STEPS = {
    "compress": "compress Z by rate(Z, U)",
    "sparsify": "sparsify Z by lasso(A | Z, D)",
    "denoise": "denoise Z by lasso(Z | X, D)",
    "descend": "descend Z by rate(Z, U)",
    "ascend": "ascend Z by rate(Z, U)",
    "prox": "prox Z by penalty(Z)",
    "solve": "solve Z by ridge(A | Z, D)",
    "project": "project sphere",
}
EXAMPLES = {
    "network": 'network Crate "what it is"', "size": "size d = 384, K = 6", "real": "real eta = 0.1",
    "preset": "preset tiny { d = 384, K = 6 }", "learn": "learn kappa = 5, beta > 0 = 0.1 per head",
    "energy": "energy rate(Z: d x N, U: K of d x p) = ...", "input": "input image(channels, height, width)",
    "tokens": "tokens Z: d x N = patches(patch) + class_token + position(learned)",
    "mask": "mask random(0.75) before encoder", "norm": "norm layer",
    "head": "head classify(classes) of class_token", "init": "init U orthogonal",
    "encoder": "encoder repeat L { compress Z by rate(Z, U) }", "decoder": "decoder repeat L = inverse(encoder)",
    "include": 'include rates, or include "mine.crate"', "loss": "loss cross_entropy + 0.01 * rate(Z, U)",
    "stochastic": "stochastic depth linear(0.1)", "class": "class attention(2, K, scale)",
    "shared": "shared U, D", "from": "from Z", "step": "step kappa", "steps": "steps 2 of eta", "read": "read D1",
    "given": "given Pi[k in K] ~ softmax(k in K) -lambda * column_norms(C[k] * Z)'",
    "causal": "compress Z by rate(Z, U) { causal }",
    "let": "let Pi[k in K] = softmax(k in K) temp * column_sums((U[k]' * Z) .^ 2)'",
    "accelerate": "accelerate",
}  # fmt: skip
EXPRESSION = {"NUMBER", "LEFT_PARENTHESIS", "MINUS"}


def _characters(at: Place) -> Diagnostic | None:
    text = at.text_at(0)
    match at.kind:
        case "OPEN_STRING":
            return at.says('this text has no closing double quote (")', "a text ends on the line on which it starts")
        case "FOREIGN_NAME":
            return at.says(f'"{text}" is not a name', foreign_name(text))
        case "UNKNOWN":
            return at.says(f"unexpected character {_shown(text)}", unknown_character(text))
    return None


def _shown(character: str) -> str:
    return f'"{character}"' if character.isprintable() else f"U+{ord(character):04X}"


def _comment(at: Place) -> Diagnostic | None:
    """A comment as C writes it: the place is its first sign, or the second where an operator can stand."""
    for distance in (0, -1):
        sign = at.text_at(distance) + at.text_at(distance + 1)
        if at.kind_at(distance) == "DIVIDE" and sign in ("//", "/*"):
            first, second = at.tokens[at.index + distance : at.index + distance + 2]
            if first.end_pos == second.start_pos:
                return at.says(
                    f'"{sign}" starts no comment', 'a comment starts with "#"', at.span_of(first).to(at.span_of(second))
                )
    return None


def _doubled(at: Place) -> Diagnostic | None:
    """Habits of other languages."""
    previous = at.kind_at(-1)
    if at.kind != previous:
        return None
    hints = {
        "TIMES": ('"**" is not an operator', 'powers are written "^" between scalars and ".^" entry by entry'),
        "EQUALS": ('"==" is not an operator', 'one "=" gives a value or a meaning'),
    }
    if previous not in hints:
        return None
    both = at.span_of(at.tokens[at.index - 1]).to(at.span)
    return at.says(*hints[previous], span=both)


def _first_word(at: Place) -> Diagnostic | None:
    if at.index:
        return None
    text, items = at.text_at(0), sorted(w.lower() for w in ITEM_WORDS)
    if at.kind in VERBS:
        return at.says(
            f'"{text}" stands outside a block', f'steps stand in a block: "encoder repeat L {{ {text} ... }}"'
        )
    if at.kind in OPTION_WORDS or at.kind_at(1) == "TILDE":
        hint = f'options stand in the braces of a step: "compress Z by rate(Z, U) {{ {text} ... }}"'
        return at.says(f'"{text}" stands outside a step', hint)
    if at.kind == "SHARED":
        return at.says('"shared" stands outside a block', 'it belongs in a block: "encoder repeat L { shared U ... }"')
    if at.kind != "NAME":
        hint = "a long line goes on inside parentheses, or after an operator, a comma or ="
        return at.says(f'a line cannot start with "{text}"', hint)
    near = get_close_matches(text, items, n=1)
    hint = f"a line starts with one of: {', '.join(items)}." + (f' Did you mean "{near[0]}"?' if near else "")
    return at.says(f'unknown word "{text}" at the start of a line', hint)


def _closes_nothing(at: Place) -> Diagnostic | None:
    brackets = [token for token in at.open_brackets if token.type != "LEFT_BRACE"]
    if (at.kind == "RIGHT_BRACE" and not at.braces) or (at.kind in CLOSING and not brackets):
        return at.says(f'this "{at.text_at(0)}" closes nothing', "everything that was opened is closed already")
    return None


def _unclosed_options(at: Place) -> Diagnostic | None:
    """A step word in the options of the step before: its brace is missing."""
    if at.kind in VERBS and len(at.braces) == 2:
        brace = at.span_of(at.braces[-1])
        hint = f'a "}}" is missing before "{at.text_at(0)}"'
        return at.says("the options opened here are not closed", hint, span=brace)
    return None


def _unclosed_bracket(at: Place) -> Diagnostic | None:
    stops = at.ended or at.kind in {"RIGHT_BRACE", "LEFT_BRACE", "EQUALS", "TILDE"} or keyword(at.kind)
    for closing, opening in (("RIGHT_PARENTHESIS", "("), ("RIGHT_BRACKET", "[")):
        if (stops or at.accepts == {closing}) and closing in at.accepts and at.open_brackets:
            hint = f"{word(closing)} is expected before {at.found}"
            return at.says(f'this "{opening}" is not closed', hint, span=at.span_of(at.open_brackets[-1]))
    return None


def _unclosed_block(at: Place) -> Diagnostic | None:
    if at.kind == "$END" and at.item.unclosed:
        brace = at.item.unclosed[-1]
        return at.says('this "{" is not closed', 'a "}" is missing before the next line that starts an item or the end',
                       span=at.span_of(brace))  # fmt: skip
    return None


def _misplaced(at: Place) -> Diagnostic | None:
    """Words of the top in a block, options outside a step, and the like."""
    text, inside = at.text_at(0), len(at.braces)
    if not inside or at.opening not in {"ENCODER", "DECODER"} or at.statement:
        return None
    if at.kind in ITEM_WORDS - {"NORM", "INIT", "LEARN"}:
        return at.says(f'"{text}" stands inside a block', f'"{text}" lines stand at the top of the file')
    if inside == 1 and (at.kind in OPTION_WORDS or at.kind_at(1) == "TILDE"):
        hint = f'it is an option of a step: "compress Z by rate(Z, U) {{ {text} ... }}"'
        return at.says(f'"{text}" stands in the block, outside a step', hint)
    if inside == 2 and at.kind in {"LEARN", "SHARED"}:
        return at.says(f'"{text}" stands in the options of a step', "it belongs to the block, before the steps")
    if at.kind_at(1) == "EQUALS" and at.kind == "NAME" and inside == 2:
        return at.says('"=" where "~" should stand', f'an approximation is written "{text} ~ rule"',
                       span=at.span_of(at.tokens[at.index + 1]))  # fmt: skip
    return None


def _site_sign(at: Place) -> Diagnostic | None:
    if at.kind == "EQUALS" and "TILDE" in at.accepts:
        return at.says('"=" where "~" should stand', f'an approximation is written "{at.text_at(-1)} ~ rule"')
    if at.kind == "TILDE" and "EQUALS" in at.accepts:
        return at.says('"~" where "=" should stand', '"~" is for approximations in the options of a step')
    return None


def _sum(at: Place) -> Diagnostic | None:
    kinds = [at.kind_at(n) for n in (-3, -2, -1)]
    if at.kind_at(-1) == "SUM" or kinds[1:] == ["SUM", "LEFT_PARENTHESIS"] or kinds[:2] == ["SUM", "LEFT_PARENTHESIS"]:
        hint = '"sum(k in K) term" sums over a family; "total(A)" adds the entries of a matrix'
        return at.says("a sum needs an index and its family", hint)
    return None


def _value_missing(at: Place) -> Diagnostic | None:
    """A name without its value, an energy without its body."""
    name = at.statement[1] if len(at.statement) > 1 else ""
    if at.opening == "ENERGY" and (at.ended and ("EQUALS" in at.accepts or at.kind_at(-1) == "EQUALS")):
        return at.says(f'energy "{name}" has no body', f'write what is to be minimised: "energy {name}(...) = ..."')
    if "EQUALS" in at.accepts and (at.ended or at.kind in {"COMMA", "RIGHT_BRACE"}) and at.kind_at(-1) == "NAME":
        last = at.text_at(-1)
        if at.opening == "LEARN" or at.statement[:1] and at.statement[0].type == "LEARN":
            return at.says(f'learned scalar "{last}" has no start value', f'write "learn {last} = 1"')
        if at.opening in {"SIZE", "REAL", "PRESET"}:
            return at.says(f'"{last}" has no value', f'write "{last} = ..."')
    return None


def _let(at: Place) -> Diagnostic | None:
    """A quantity without its value, or a family of them without its index bound."""
    if not at.statement or at.statement[0].type != "LET" or len(at.statement) < 2:
        return None
    name = at.statement[1]
    if "EQUALS" in at.accepts and (at.ended or at.kind in {"NEWLINE", "SEMICOLON", "RIGHT_BRACE"}):
        return at.says(f'quantity "{name}" has no value', f'write "let {name} = ..."')
    if "IN" in at.accepts:
        return at.says("a family of quantities binds its index", f'write "let {name}[k in K] = ..."')
    return None


def _trailing_comma(at: Place) -> Diagnostic | None:
    if at.kind_at(-1) == "COMMA" and (at.ended or at.kind in {"RIGHT_PARENTHESIS", "RIGHT_BRACE"} or _statement(at)):
        comma = at.span_of(at.tokens[at.index - 1])
        return at.says("nothing follows this comma", "remove it, or write what should follow", span=comma)
    return None


def _statement(at: Place) -> bool:
    """A statement that starts on a line after the comma."""
    starts = VERBS | OPTION_WORDS | {"LEARN", "SHARED"}
    return at.kind in starts and at.tokens[at.index].line > at.tokens[at.index - 1].line


def _reserved(at: Place) -> Diagnostic | None:
    if "NAME" in at.accepts and keyword(at.kind) and not at.accepts & {"COMMA", "NEWLINE"}:
        text = at.text_at(0)
        hint = f'choose another name, such as "{text}_" or "my_{text}"'
        return at.says(f'"{text}" is a word of the language and cannot be a name', hint)
    return None


def _energy_use(at: Place) -> Diagnostic | None:
    statement = [token.type for token in at.statement]
    if not statement or statement[0] not in VERBS or statement[0] == "PROJECT":
        return None
    verb, by = at.statement[0], "BY" in statement
    example = f'"{STEPS[str(verb)]}"'
    if not by and len(statement) == 2:
        near = at.kind == "NAME" and get_close_matches(at.text_at(0), ["by"], n=1, cutoff=0.5)
        return at.says(f'"by" and an energy are missing after "{at.text_at(-1)}"' if not near else
                       f'{at.found} where "by" should stand', f"a step is written {example}")  # fmt: skip
    if statement[-1] == "BY" or statement[-2:-1] == ["BY"]:
        hint = f"a step names its energy and what stands for its arguments: {example}"
        return at.says(f"{at.found} where {expectation(at.accepts)} should stand", hint)
    if at.kind in {"NUMBER", "MINUS"} and at.accepts == {"NAME"}:
        hint = 'give it a name at the top, "real beta = 0.1", and write the name here'
        return at.says("an energy takes names, not numbers", hint)
    return None


def _project(at: Place) -> Diagnostic | None:
    if at.statement[:1] and at.statement[0].type == "PROJECT":
        return at.says(
            f"{at.found} in a projection", "it names a constraint on the tokens, and nothing else: project sphere"
        )
    return None


def _shape(at: Place) -> Diagnostic | None:
    hint = 'a shape is written with spaces, rows x columns: "d x N", "K of d x p", or "real" for a number'
    if at.opening in {"ENERGY", "TOKENS"} and "COLON" in at.accepts:
        return at.says(f'"{at.text_at(-1)}" has no shape', f'write "{at.text_at(-1)}: d x N"')
    if at.kind_at(-2) == "COLON" and at.kind_at(-1) == "NAME" and "OF" in at.accepts:
        text = at.text_at(-1)
        return at.says(f'"{text}" is one name, not a shape' if "x" in text[1:-1] else "this shape has no columns", hint,
                       span=at.span_of(at.tokens[at.index - 1]))  # fmt: skip
    if at.kind_at(-1) == "COLON":
        return at.says(f"{at.found} where a shape should stand", hint)
    return None


def _steps(at: Place) -> Diagnostic | None:
    if at.statement and at.statement[0].type == "STEPS" and "OF" in at.accepts:
        written = f"{at.text_at(-1)} of eta" if at.kind in {"NAME", "NUMBER"} else f"1 of {at.text_at(-1)}"
        hint = f'a number of steps needs their size: "steps {written}"'
        return at.says(f'{at.found} where "of" should stand', hint)
    return None


def _index(at: Place) -> Diagnostic | None:
    if at.kind_at(-1) == "LEFT_BRACKET":
        hint = 'members of a family stand in a sum over it: "sum(k in K) ... U[k]"'
        return at.says("an index is the name that a sum binds", hint)
    return None


def _comma_missing(at: Place) -> Diagnostic | None:
    if at.kind in {"NAME", "NUMBER"} and at.kind_at(-1) in {"NAME", "NUMBER", "RIGHT_PARENTHESIS"} and at.open_brackets:
        if at.open_brackets[-1].type == "LEFT_PARENTHESIS" and "COMMA" in at.accepts:
            hint = 'arguments are separated by ","' + (
                ', products are written with "*"' if "TIMES" in at.accepts else ""
            )
            return at.says(f'"{at.text_at(-1)}" and "{at.text_at(0)}" stand side by side', hint)
    return None


def _operator_missing(at: Place) -> Diagnostic | None:
    if at.kind in {"NAME", "NUMBER", "LEFT_PARENTHESIS"} and "TIMES" in at.accepts:
        return at.says(f'no operator between "{at.text_at(-1)}" and {at.found}', 'a product is written with "*"')
    return None


def _operand_missing(at: Place) -> Diagnostic | None:
    if not at.accepts >= EXPRESSION or at.kind_at(-1) not in OPERATORS | {"EQUALS", "LEFT_PARENTHESIS"}:
        return None
    if at.kind == "PLUS" and at.kind_at(-1) not in OPERATORS:
        return at.says('a leading "+" is not needed', "leave it out")
    return at.says(f'an expression is missing after "{at.text_at(-1)}"', f"{at.found} follows instead")


def _loss(at: Place) -> Diagnostic | None:
    if at.opening != "LOSS":
        return None
    if at.kind == "BAR":
        return at.says(
            'a "|" among the arguments of a loss', "nothing is held in a loss: separate all arguments by commas"
        )
    if at.kind_at(-1) == "IN":
        return at.says(f"{at.found} where a block should stand", 'write "in encoder" or "in decoder" behind a term')
    return None


def _quotes(at: Place) -> Diagnostic | None:
    if at.opening == "NETWORK" and at.kind in {"TRANSPOSE", "NAME"} and at.index == 2:
        return at.says("the description needs double quotes", 'network Crate "what this network is"')
    return None


def _one_per_line(at: Place) -> Diagnostic | None:
    if at.kind == "COMMA" and "SEMICOLON" in at.accepts:
        return at.says('"," between statements', 'statements stand on lines of their own, or are separated by ";"')
    if {"SEMICOLON", "$END"} & at.accepts and (keyword(at.kind) or at.kind_at(1) == "TILDE") and not _near(at):
        separated = 'a line of its own, or behind ";"'
        return at.says(f"{at.found} follows on the same line", f'"{at.text_at(0)}" starts a statement: {separated}')
    return None


def _near(at: Place) -> list[str]:
    words = [terminal.lower() for terminal in at.accepts if keyword(terminal)]
    return get_close_matches(at.text_at(0), words, n=1, cutoff=0.5)


def _general(at: Place) -> Diagnostic:
    hint = f"expected {expectation(at.accepts)}"
    near = _near(at) if at.kind == "NAME" else []
    hint += f'. Did you mean "{near[0]}"?' if near else ""
    if not near and at.first_word in EXAMPLES and at.open_brackets == at.braces:
        hint += f"; for example: {EXAMPLES[at.first_word]}"
    return at.says("the line ends too early" if at.ended else f"unexpected {at.found}", hint)


RULES: tuple[Callable[[Place], Diagnostic | None], ...] = (
    _characters, _closes_nothing, _comment, _doubled, _first_word, _quotes, _unclosed_options, _misplaced, _site_sign,
    _sum, _loss, _energy_use, _project, _shape, _let, _value_missing, _trailing_comma, _steps, _index,
    _unclosed_bracket, _unclosed_block, _reserved, _one_per_line, _comma_missing, _operator_missing, _operand_missing,
)  # fmt: skip


def explain(at: Place) -> Diagnostic:
    """The most helpful message for a place where the parser stopped."""
    return next((diagnostic for rule in RULES if (diagnostic := rule(at))), None) or _general(at)
