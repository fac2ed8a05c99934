"""A report as a whole: what can be named, what is written, and that the page needs nothing beside itself."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from runtime import explore, report
from runtime.errors import UserError
from runtime.instruments import dictionaries, overview
from runtime.instruments.catalogue import INSTRUMENTS
from runtime.instruments.naming import Asked, Named, named, subject_named
from runtime.instruments.section import Curve, Section, Sheet
from runtime.network import compile_network
from runtime.pages.files import Measured, comma_separated, write_numbers
from runtime.pages.side_by_side import side_by_side
from runtime.pages.web_page import cell, page
from runtime.storage import checkpoint
from tests.runtime.conftest import SPECS, TINY, Train, Weights, status, tiny_run, weights_of  # noqa: F401

ONLY = ["--only", "overview", "--count", "4"]
SIZES = {"image": 16, "patch": 4, "channels": 1, "classes": 10, "d": 8, "K": 2, "L": 1}


class Reader(HTMLParser):
    """What a page refers to, whether its tags close, and its words."""

    VOID = {"meta", "img", "br", "link", "input", "hr"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.identifiers: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.references += [value for name, value in attributes if name in ("src", "href", "action", "data")]
        self.identifiers += [value for name, value in attributes if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def rows_of(file: Path) -> list[list[str]]:
    with file.open(newline="") as lines:
        return list(csv.reader(lines))


@pytest.fixture
def reported(tmp_path: Path) -> Callable[..., Path]:
    def run(*words: object) -> Path:
        report.main([*map(str, words), "--out", str(tmp_path / "report")])
        return tmp_path / "report"

    return run


def test_every_instrument_of_a_run(tiny_run: Train) -> None:  # noqa: F811
    run = tiny_run("crate")
    report.main([str(run), "--count", "6"])
    out = run / "report"
    content = json.loads((out / "report.json").read_text())
    (network,) = content["networks"]
    assert [section["name"] for section in network["sections"]] == list(INSTRUMENTS)
    reader = Reader((out / "report.html").read_text())
    assert not reader.open
    assert all(link.startswith(("#", "data:image/svg+xml;base64,")) for link in reader.references)
    links = {link[1:] for link in reader.references if link.startswith("#")}
    assert links <= set(reader.identifiers) and len(reader.identifiers) == len(set(reader.identifiers))
    figures = {f"{s['name']}-{name}" for s in network["sections"] for name in s["figures"]}
    for ending in ("svg", "png"):
        assert {file.stem for file in (out / "figures").glob(f"*.{ending}")} == figures
    tables = {f"{s['name']}-{name}": t for s in network["sections"] for name, t in s["tables"].items()}
    assert {file.stem for file in (out / "tables").glob("*.csv")} == set(tables)
    for name, table in tables.items():
        header, *rows = rows_of(out / "tables" / f"{name}.csv")
        assert header == table["columns"] and len(rows) == len(table["rows"])


def test_figures_are_those_of_evaluation(tiny_run: Train, reported: Callable[..., Path]) -> None:  # noqa: F811
    run = tiny_run("crate")
    out = reported(run, *ONLY)
    rows = rows_of(out / "tables" / "overview-figures.csv")
    assert rows[0][:3] == ["figure", "trained", "initial"]
    kept = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = [entry for entry in kept if entry["split"] == "held_out"][-1]
    assert {row[0]: float(row[1]) for row in rows[1:]} == pytest.approx({row[0]: last[row[0]] for row in rows[1:]})
    assert any(row[1] != row[2] for row in rows[1:])  # training has changed something


def test_the_initial_network_is_the_one_that_training_began_with(tiny_run: Train) -> None:  # noqa: F811
    run = tiny_run("crate", steps=1, name="once")
    asked = Asked(None, None, ["seed=3"], None, {}, 4)
    subject = subject_named(Named("once", run), asked)
    expected = compile_network(run / "spec.crate", subject.recipe.preset, subject.recipe.sizes, 3).module
    for name, value in subject.initial.state_dict().items():
        assert torch.equal(value, expected.state_dict()[name])
    assert any(
        not torch.equal(a, b) for a, b in zip(subject.network.parameters(), subject.initial.parameters(), strict=True)
    )


def test_a_bare_file_does_not_say_how_its_training_began(weights_of: Weights) -> None:  # noqa: F811
    """Its seed is another than the recipe's, so that no distance from the initial network is that of training."""
    subject = subject_named(Named("bare", weights_of("crate", seed=1, **SIZES)), Asked(None, None, [], None, {}, 2))
    found = dictionaries.numbers(subject).atoms
    assert list(found) == ["trained", "initial"] and all(each.moved is None for each in found["trained"])
    said = dict(overview.facts(subject).rows)
    assert said["initial network"] == "as initialised, seed 0; the file does not say what its training began with"


def test_a_run_is_as_far_from_its_start_as_training_took_it(tiny_run: Train) -> None:  # noqa: F811
    subject = subject_named(Named("run", tiny_run("crate", "seed=5", steps=1)), Asked(None, None, [], None, {}, 2))
    (atoms,) = dictionaries.numbers(subject).atoms["trained"]
    before, after = (network.encoder[0].sparsify.D for network in (subject.initial, subject.network))
    assert atoms.moved == pytest.approx(float((after - before).norm() / before.norm()), rel=1e-5) and atoms.moved > 0
    assert "initial network" not in dict(overview.facts(subject).rows)


def test_weights_and_specs(weights_of: Weights, reported: Callable[..., Path]) -> None:  # noqa: F811
    """A file that says what it is, the same tensors for a spec, and the spec alone."""
    file = weights_of("crate", **SIZES)
    bare = file.with_name("bare.safetensors")
    checkpoint.save_weights(bare, checkpoint.load_weights(file)[0], {})
    sizes = [f"{name}={value}" for name, value in SIZES.items()]
    out = reported(file, SPECS / "crate.crate", bare, SPECS / "crate_exact.crate", *ONLY, "--set", *sizes)
    content = json.loads((out / "report.json").read_text())
    labels = [network["label"] for network in content["networks"]]
    assert labels == ["weights", "crate", "crate_exact"]
    figures = [network["sections"][0]["tables"]["figures"]["rows"] for network in content["networks"]]
    assert [row[:2] for row in figures[0]] == [row[:2] for row in figures[1]] != [row[:2] for row in figures[2]]
    assert content["networks"][2]["weights"] == "as initialised"


def test_a_grid_is_laid_side_by_side(tmp_path: Path) -> None:
    grid = tmp_path / "grid"
    length = ["epochs=null", "steps=2"]
    explore.main([str(SPECS / "crate.crate"), "--vary", "adjoint=free,tied", "--out", str(grid), *TINY, *length])
    report.main([str(grid), *ONLY])
    content = json.loads((grid / "report" / "report.json").read_text())
    assert [network["label"] for network in content["networks"]] == ["adjoint=free", "adjoint=tied"]
    (header, *rows) = rows_of(grid / "report" / "tables" / "side-by-side-networks.csv")
    table = json.loads((grid / "table.json").read_text())
    for row, variant in zip(rows, table["variants"], strict=True):
        (run,) = variant["runs"].values()
        assert float(row[header.index("accuracy")]) == pytest.approx(run["figures"]["accuracy"])


def test_alike_labels_are_numbered(tmp_path: Path) -> None:
    words = [tmp_path / "a" / "run", tmp_path / "b" / "run", SPECS / "crate.crate", SPECS / "crate.crate"]
    assert [each.label for each in named(words)] == ["run", "run (2)", "crate", "crate (2)"]


def test_an_earlier_report_goes(reported: Callable[..., Path]) -> None:
    words = (SPECS / "crate.crate", *ONLY, "--preset", "digits", "--set", "image=16", "patch=4")
    out = reported(*words)
    (out / "tables" / "stale.csv").write_text("old")
    (out / "figures" / "mine.txt").write_text("kept")
    reported(*words)
    assert not (out / "tables" / "stale.csv").exists()
    assert (out / "figures" / "mine.txt").exists()  # not of a kind that a report writes


def test_what_users_wrote_is_text() -> None:
    hostile = "<script>alert(1)</script>"
    sheet = Sheet("a", hostile, (hostile,), [(hostile,)])
    text = page(hostile, hostile, [Measured(hostile, [Section("b", hostile, (hostile,), (), (sheet,))], {})], None, {})
    assert "<script" not in text and "alert(1)" in "".join(Reader(text).words)


def test_pictures_and_masks(tmp_path: Path) -> None:
    """A mask is cropped as its picture is: a bright square stays where it was."""
    pictures, masks = tmp_path / "pictures", tmp_path / "masks"
    pictures.mkdir()
    masks.mkdir()
    pixels = np.zeros((80, 64), dtype=np.uint8)
    pixels[30:50, 20:40] = 255
    Image.fromarray(pixels).save(pictures / "square.png")
    Image.fromarray(pixels).save(pictures / "unknown.png")
    Image.fromarray(pixels).save(masks / "square.png")
    asked = Asked(None, None, [], None, SIZES, 2, [pictures], masks)
    subject = subject_named(Named("crate", None, SPECS / "crate.crate"), asked)
    square, unknown = subject.shown
    assert (square.name, unknown.name, unknown.mask) == ("square", "unknown", None)
    bright = subject.recipe.data.displayed(square.image)[0]
    assert torch.equal(square.mask, bright >= 0.5) and 0 < square.mask.sum() < square.mask.numel()


def test_a_network_of_any_size_is_shown_photographs(reported: Callable[..., Path]) -> None:
    """The default recipe's digits do not fit, and the photographs have no classes to score with."""
    sizes = ["image=96", "patch=32", "d=8", "K=2", "L=1"]
    out = reported(SPECS / "crate.crate", "--count", "4", "--set", *sizes)
    (network,) = json.loads((out / "report.json").read_text())["networks"]
    sections = {section["name"]: section for section in network["sections"]}
    assert dict(sections["overview"]["tables"]["facts"]["rows"])["data"].startswith("photographs, 4 held-out")
    for name in ("overview", "prediction"):
        assert any("needs data with classes" in text for text in sections[name]["text"])
    assert "figures" not in sections["overview"]["tables"]
    assert "neighbours" in sections["prediction"]["figures"] and "removed" not in sections["prediction"]["figures"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--only", "energy"], 'unknown instrument "energy"'),
        (["--count", "0"], "must be at least 1"),
        (["--masks", "nowhere"], "no such folder of masks"),
        (["--images", "nowhere.png"], "no such picture"),
        (["nowhere"], "not the folder of a run, nor a weights file"),
        (["official.pth"], "python -m runtime.convert"),
        (["data=nothing"], 'unknown name "nothing"'),
        (["--data", "text"], "gives text, the network reads images"),
    ],
)
def test_what_is_refused(
    words: list[str],
    said: str,
    tmp_path: Path,
    status: Callable[..., int],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "report"
    assert status(report, SPECS / "crate.crate", *words, "--out", out) == 1
    message = capsys.readouterr().err
    assert said in message and "Traceback" not in message
    assert not out.exists()


def test_weights_of_other_sizes_say_how_sizes_are_chosen(weights_of: Weights, tmp_path: Path) -> None:  # noqa: F811
    file = weights_of("crate", **SIZES)
    with pytest.raises(UserError, match="fewer than the positions(.|\n)*--preset and --set choose the sizes"):
        report.main([str(SPECS / "crate.crate"), str(file), "--out", str(tmp_path / "report")])


def test_a_trained_network_has_its_sizes(weights_of: Weights, tmp_path: Path) -> None:  # noqa: F811
    file = weights_of("crate", **SIZES)
    for option in (["--set", "L=3"], ["--preset", "tiny"]):
        with pytest.raises(UserError, match="the sizes of a trained network are fixed"):
            report.main([str(file), *option, "--out", str(tmp_path / "report")])


def test_files_and_anchors_of_networks_do_not_meet(tmp_path: Path) -> None:
    """Labels that differ in signs, in capitals, in no letter of the Latin alphabet, or beyond what a name holds."""
    labels = ["net (2)", "net-2", "tau=-0.1", "tau=0.1", "Net", "net", "сеть", "网络", "--", "together", *(
        f"{'x' * 300}{number}" for number in range(2)
    )]  # fmt: skip
    section = Section("s", "S", curves=(), sheets=(Sheet("t", "", ("a",), [(1,)]),))
    found = [Measured(label, [section], {}) for label in labels]
    write_numbers(found, side_by_side(found), tmp_path)
    names = [file.name for file in (tmp_path / "tables").glob("*-s-t.csv")]
    assert len({name.lower() for name in names}) == len(labels)
    assert {"сеть-s-t.csv", "tau--0.1-s-t.csv", "tau-0.1-s-t.csv"} <= set(names)
    reader = Reader(page("", "", found, side_by_side(found), {}))
    assert len(reader.identifiers) == len(set(reader.identifiers))


def test_labels_differ() -> None:
    words = [Path(name) for name in ("a/net.safetensors", "b/net.safetensors", "net (2).safetensors")]
    assert [each.label for each in named(words)] == ["net", "net (2)", "net (2) (2)"]


def test_a_broken_grid_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "table.json").write_text('{"variants": [{"runs": 3}]}')
    with pytest.raises(UserError, match="not the table of an explored grid"):
        named([tmp_path])


def test_curves_that_several_have_are_drawn_together() -> None:
    alone = Curve("alone", ("0",), (1.0,))
    shared = [Curve("rate", ("0", "1"), (3.0, number)) for number in (1.0, 2.0)]
    first = Measured("a", [Section("e", "E", curves=(shared[0], alone))], {"parameters": 3})
    second = Measured("b", [Section("e", "E", curves=(shared[1],))], {"parameters": 4})
    together = side_by_side([first, second])
    assert [panel.name for panel in together.panels] == ["rate"]
    networks, ends = together.sheets
    assert list(networks.rows) == [("a", 3), ("b", 4)]
    assert [(row[1], row[3], row[5]) for row in ends.rows] == [("a", 3.0, 1.0), ("b", 3.0, 2.0)]
    assert side_by_side([first]) is None


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, ""), (True, "yes"), (1234, "1,234"), (0.000123456, "0.0001235"), (float("inf"), "not finite"), ("a", "a")],
)
def test_cells(value: object, shown: str) -> None:
    assert cell(value) == shown


def test_numbers_are_written_in_full() -> None:
    text = comma_separated(Sheet("a", "", ("x", "y"), [(0.1 + 0.2, None), ("a,b", 3)]))
    assert text == 'x,y\n0.30000000000000004,\n"a,b",3\n' and not re.search(r"nan|inf", text)
