"""YAML as recipes need it: no tags, no references, and nothing that takes long to read."""

from __future__ import annotations

from typing import Any

import yaml

MAX_DEPTH = 20
MAX_SCALAR = 10_000  # characters of one value


class Reader(yaml.SafeLoader):
    """Refuses references, deep nesting and endless values while it reads, before anything is made of them.

    References let a file of a few lines stand for any number of values. A key must not be given twice: of YAML's two
    values the first would be gone without a word.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> yaml.Node:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(f"line {event.start_mark.line + 1}: references (*{event.anchor}) are not allowed")
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > MAX_SCALAR:
            raise yaml.YAMLError(f"line {event.start_mark.line + 1}: a value of more than {MAX_SCALAR:,} characters")
        if self._depth >= MAX_DEPTH:
            raise yaml.YAMLError(f"line {event.start_mark.line + 1}: more than {MAX_DEPTH} levels")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.YAMLError(f'line {key.start_mark.line + 1}: "{key.value}" is given twice')
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def read(text: str) -> Any:
    """What a text says; raises yaml.YAMLError for what is no plain YAML."""
    reader = Reader(text)
    try:
        return reader.get_single_data()
    except ValueError as error:  # a number of too many digits, a date that is none
        raise yaml.YAMLError(str(error)) from None
    finally:
        reader.dispose()
