"""The written formats: valid by their own grammars, complete, safe for any text, the same every time."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from lark import Lark, Token, Tree, UnexpectedInput

from crate_dsl.errors import CrateError
from crate_dsl.pictures import palette
from crate_dsl.pictures.drawing import Drawing
from crate_dsl.pictures.notation import unicode
from crate_dsl.pictures.outline import numbered
from crate_dsl.pictures.picture import FORMATS, writer_of
from tests.pictures.drawings import HOSTILE, ROOT, SPECS, drawing, hostile

DOT = Lark((Path(__file__).parent / "dot.lark").read_text())
SVG = "{http://www.w3.org/2000/svg}"
HARMLESS = {"svg", "title", "desc", "rect", "circle", "polyline", "polygon", "text", "tspan", "g"}

# Mermaid's flowchart, line by line, as strictly as we write it: every text in quotes, nothing in them but letters,
# signs without a meaning and numbered entities.
QUOTED = r"\"(?:[^\"#;<>{}\[\]|`&\\$%^~*!?@\x00-\x1f]|#\d+;|<br/>)*\""
MERMAID = [
    r"%%\{init: \{\"flowchart\": \{\"wrappingWidth\": \d+\}\}\}%%",
    r"flowchart TB",
    r"accTitle: [^\n#;{}\"<>%]+",
    r"accDescr: [^\n#;{}\"<>%]+",
    rf"n\d+(?:\[{QUOTED}\]|\(\[{QUOTED}\]\)|\(\({QUOTED}\)\))",
    rf"subgraph g_n\d+\[{QUOTED}\]",
    r"direction TB",
    r"end",
    rf"n\d+ (?:-->|-\.->)(?:\|{QUOTED}\|)? n\d+",
    r"style g_n\d+ fill:#[0-9A-F]{6},stroke:#[0-9A-F]{6},color:#[0-9A-F]{6}",
    r"classDef \w+ fill:#[0-9A-F]{6},stroke:#[0-9A-F]{6},color:#[0-9A-F]{6}",
    r"class n\d+(?:,n\d+)* v\d+",
]


def written(shown: Drawing, ending: str) -> str:
    return FORMATS[ending](shown)


@pytest.fixture(params=[*SPECS, None], ids=[*(path.stem for path in SPECS), "hostile"])
def shown(request: pytest.FixtureRequest) -> Drawing:
    return drawing(request.param) if request.param else hostile()


# ---- SVG -----------------------------------------------------------------------------------------------------------


def test_svg_holds_texts_and_shapes_alone(shown: Drawing) -> None:
    root = ElementTree.fromstring(written(shown, ".svg"))
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= HARMLESS
    attributes = {name for element in root.iter() for name in element.attrib}
    assert not [name for name in attributes if name.startswith("on") or "href" in name or name == "style"]
    assert root.attrib["role"] == "img" and root[0].tag == f"{SVG}title" and root[1].tag == f"{SVG}desc"
    assert root[2].tag == f"{SVG}rect" and root[2].attrib["fill"] == palette.PAPER


def test_svg_says_what_the_drawing_says(shown: Drawing) -> None:
    root = ElementTree.fromstring(written(shown, ".svg"))
    assert root[0].text == shown.title
    texts = ["".join(element.itertext()) for element in root.iter(f"{SVG}text")]
    assert all(node.label in texts for node in shown.nodes if node.kind != "sum")
    assert [t for t in texts if t in {arrow.label for arrow in shown.arrows}]


def test_svg_scripts_come_back_to_the_baseline(shown: Drawing) -> None:
    for text in ElementTree.fromstring(written(shown, ".svg")).iter(f"{SVG}text"):
        shifts = [float(span.attrib.get("dy", 0)) for span in text]
        if text[-1:] and not text[-1].attrib.get("font-size"):
            assert sum(shifts) == pytest.approx(0, abs=1e-9)


def test_svg_text_can_be_read() -> None:
    """At least 10 in sizes of 900 across, and contrast of at least 4.5 (WCAG 2, level AA) on every ground used."""
    root = ElementTree.fromstring(written(drawing(SPECS[0]), ".svg"))
    assert min(float(e.attrib["font-size"]) for e in root.iter(f"{SVG}text")) >= 11
    grounds = [palette.PAPER, palette.PANEL, *(palette.tint(c, 0.22) for c in {*palette.VERBS.values(), palette.LINE})]
    assert min(contrast(text, ground) for text in (palette.INK,) for ground in grounds) >= 7
    assert min(contrast(palette.SOFT, ground) for ground in (palette.PAPER, palette.PANEL)) >= 4.5


def contrast(one: str, other: str) -> float:
    bright, dark = sorted(map(luminance, (one, other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


# ---- Mermaid -------------------------------------------------------------------------------------------------------


def unknown_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if not any(re.fullmatch(p, line.strip()) for p in MERMAID)]


def test_mermaid_is_valid_and_whole(shown: Drawing) -> None:
    text = written(shown, ".mmd")
    assert unknown_lines(text) == []
    lines = [line.strip() for line in text.splitlines()]
    assert sum(line.startswith("subgraph") for line in lines) == lines.count("end")
    declared = re.findall(r"^\s*(n\d+)[\[(]", text, re.M)
    assert sorted(declared) == sorted(numbered(shown).values())
    used = {name for a, b in re.findall(r"^\s*(n\d+) -.*? (n\d+)$", text, re.M) for name in (a, b)}
    assert used <= set(declared)
    assert len(re.findall(r"-->|-\.->", text)) == len(shown.arrows)


def test_mermaid_offenders_are_seen() -> None:
    good = 'n1["a"]'
    assert unknown_lines(good) == []
    for bad in ('n1["a"b"]', 'n1["a]', "n1[a]", 'n1["<b>"]', 'n1["#quot"]', "n1 --> [", 'n1 -->|a"b| n2'):
        assert unknown_lines(bad)


def test_mermaid_does_not_see_lists() -> None:
    """Mermaid reads labels as Markdown and refuses lists."""
    quoted = sys.modules[FORMATS[".mmd"].__module__].quoted
    assert quoted("1. first") == "1#46; first" and quoted("- first") == "#45; first" and quoted("1.5 x") == "1#46;5 x"


# ---- DOT -----------------------------------------------------------------------------------------------------------


def strings(tree: Tree) -> list[str]:
    return [str(t) for t in tree.scan_values(lambda value: isinstance(value, Token))]


def test_dot_is_valid_and_whole(shown: Drawing) -> None:
    tree = DOT.parse(written(shown, ".dot"))
    assert len(list(tree.find_data("edge"))) == len(shown.arrows)
    nodes = {strings(node)[0] for node in tree.find_data("node")}
    assert nodes == set(numbered(shown).values())
    blocks = [strings(subgraph)[0] for subgraph in tree.find_data("subgraph")]
    assert len(blocks) == len(set(blocks))


@pytest.mark.parametrize("bad", ['digraph "a"b" {}', "digraph { n1 -> }", 'digraph { n1 [label="a] }', "digraph { n1"])
def test_dot_offenders_are_seen(bad: str) -> None:
    with pytest.raises(UnexpectedInput):
        DOT.parse(bad)


# ---- all formats ---------------------------------------------------------------------------------------------------


def test_hostile_texts_change_nothing_but_themselves() -> None:
    """No text of a spec can end a label: what is drawn is the same as with a harmless description."""
    assert HOSTILE[:20] in hostile().description
    svg = written(hostile(), ".svg")
    assert "<script" not in svg and "&lt;script&gt;" in svg
    assert "<script" not in written(hostile(), ".mmd")


def test_pictures_are_the_same_every_time() -> None:
    """Whatever the order of sets; and nothing of the network is executed, since torch is not even imported."""
    code = (
        "import sys; from crate_dsl import compile_spec; c = compile_spec('specs/crate_mae.crate');"
        "sys.stdout.reconfigure(encoding='utf-8'); print(c.picture('x.svg') + c.picture('x.mmd') + c.picture('x.dot'));"
        "sys.exit('torch' in sys.modules)"
    )
    shown, texts = drawing(ROOT / "specs/crate_mae.crate"), []
    for seed in ("1", "2"):
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT), "PATH": ""}
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        texts.append(done.stdout.decode())
    assert texts[0] == texts[1] == "".join(written(shown, ending) for ending in (".svg", ".mmd", ".dot")) + "\n"


@pytest.mark.parametrize(("path", "hint"), [("x.svgg", 'Did you mean ".svg"?'), ("x", "endings: "), ("x.png", ".dot")])
def test_unknown_endings(path: str, hint: str) -> None:
    with pytest.raises(CrateError, match=re.escape(hint)):
        writer_of(path)


def test_endings_are_read_in_any_case() -> None:
    assert writer_of("A.SVG") is FORMATS[".svg"]


def test_formulas_are_text_in_every_format() -> None:
    for ending, text in ((ending, written(drawing(ROOT / "specs/crate.crate"), ending)) for ending in (".mmd", ".dot")):
        assert "Σₖ Uₖᵒᵘᵗ Vₖ softmax(1/√p · Vₖᵀ Vₖ)" in text, ending
    root = ElementTree.fromstring(written(drawing(ROOT / "specs/crate.crate"), ".svg"))
    formulas = ["".join(e.itertext()) for e in root.iter(f"{SVG}text")]
    assert "Z+ = Z + Σk Ukout Vk softmax(1/√p · VkT Vk) + Ubias 1NT" in [f.replace("\u2009", " ") for f in formulas]
    assert unicode(()) == ""
