"""A value of a graph as a formula, for messages and comments."""

from __future__ import annotations

import sympy

from crate_dsl.operators.graph import Operators


def described_whole(operators: Operators, number: int) -> str:
    """A value as a formula that stands by itself: a sum without its brackets, what is negative subtracted."""
    text = described(operators, number).replace("+ -", "- ")
    return text[1:-1] if operators[number].kind == "combine" else text


def described(operators: Operators, number: int) -> str:
    """A value as a formula among others."""
    operator = operators[number]
    inputs = [described(operators, n) for n in operator.inputs]
    match operator.kind:
        case "input" | "parameter":
            index = f"[{operator.type.family}]" if operator.type.family else ""
            return f"{operator.attributes[0]}{index}"
        case "transpose":
            return f"{inputs[0]}'" if operators[operator.inputs[0]].inputs == () else f"({inputs[0]})'"
        case "product":
            return " * ".join(inputs)
        case "combine":
            return f"({' + '.join(_scaled(c, x) for c, x in zip(operator.attributes[0], inputs, strict=True))})"
        case "inverse":
            return f"{inputs[0]}^-1"
        case "quantity":
            return str(operator.attributes[0])
        case "diagonal":
            return f"diag({inputs[0]})"
        case "identity":
            return "I"
        case "ones":
            return f"ones({operator.type.rows})"
        case "fill":
            return _scaled(operator.attributes[0], f"ones({operator.type.rows})")
        case "broadcast":
            scale, value = f"diag({inputs[0]})", inputs[1]
            return f"{scale} * {value}" if operator.attributes[0] == "rows" else f"{value} * {scale}"
        case "attention":
            scores = f"{operator.attributes[0]} * {_bracketed(inputs[1])}' * {inputs[2]}".replace("**", "^")
            return f"{_bracketed(inputs[0])} * softmax({scores})"
        case "function":
            return f"{operator.attributes[0]}({', '.join(inputs)})"
    return f"{operator.kind}({', '.join(inputs)})"


def _bracketed(text: str) -> str:
    return text if text.isidentifier() else f"({text})"


def _scaled(coefficient: sympy.Expr, text: str) -> str:
    return text if coefficient == 1 else f"{str(coefficient).replace('**', '^')} * {text}"
