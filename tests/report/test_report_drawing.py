import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from report_fakes import REMOVED, add_search, finish, start_run, supernet

from prunepeft_ray.analysis import Removal, summarise
from prunepeft_ray.architecture import KIND_TITLES, KINDS, Slot
from prunepeft_ray.errors import InputError
from prunepeft_ray.report import summary_svg
from prunepeft_ray.report.architecture_drawing import COLOURS

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    folder = start_run(tmp_path_factory.mktemp("runs") / "run")
    finish(folder)
    return summarise(folder)


def parse(summary):
    return ElementTree.fromstring(summary_svg(summary))


def texts(element):
    return [text.text for text in element.iter(f"{SVG}text")]


def groups(root):
    return {group.get("id"): group for group in root.iter(f"{SVG}g")}


def top(group):
    return float(group.find(f"{SVG}rect").get("y"))


def test_every_slot_of_the_supernet_is_drawn_filled_or_dashed(summary):
    drawn = groups(parse(summary))
    assert set(drawn) == {str(slot) for slot in summary.supernet.slots}
    round_of = {name: number for name, number, _ in REMOVED}
    for name, group in drawn.items():
        (box,) = group.findall(f"{SVG}rect")
        slot = Slot.parse(name)
        if slot in summary.found:
            assert box.get("fill") == COLOURS[slot.kind][0]
            assert box.get("stroke-dasharray") is None
            assert texts(group) == [{"PA": "LoRA 8", "SA": "adapter 16"}[slot.kind]]
        else:
            assert box.get("fill") == "none"
            assert box.get("stroke-dasharray")
            assert texts(group) == [f"round {round_of[name]}"]


def test_the_input_is_at_the_bottom_and_slots_of_a_layer_are_level(summary):
    drawn = groups(parse(summary))
    tops = [top(drawn[f"PA.{layer}"]) for layer in range(4)]
    assert tops == sorted(tops, reverse=True)
    assert tops == [top(drawn[f"SA.{layer}"]) for layer in range(4)]


def test_the_picture_says_what_it_shows(summary):
    words = texts(parse(summary))
    for line in (
        "900 parameters: 0.90 % of the backbone, budget 1%",
        "accuracy: dev 0.8125, test 0.7500 (one run, seed 5)",
        "PA: query, value",
        "SA: serial",
        *(f"layer {layer}" for layer in range(4)),
        "block 0",
        "block 1",
    ):
        assert line in words
    assert words[0] == "PEFT architecture for movie on minilm"


@pytest.mark.parametrize(
    ("layers", "kinds", "blocks"),
    [
        (30, ("PA", "SA"), (5, 10, 10, 5)),
        (6, ("SA",), (1, 2, 2, 1)),
        (12, tuple(KINDS), (12,)),
        (12, ("PA",), (12,)),
        (1, ("PA", "SA"), (1,)),
    ],
)
def test_everything_lies_within_the_picture_whatever_the_size(summary, layers, kinds, blocks):
    whole = supernet(layers, kinds)
    name = "a_very_long_name_of_a_file_of_somebody_s_own_customer_reviews_2026_final.csv"
    removals = (Removal(1, str(whole.slots[0]), 0.5, ("weight",)),)
    root = parse(
        replace(
            summary, supernet=whole, found=whole.without(whole.slots[:1]), blocks=blocks, task=name, removals=removals
        )
    )
    assert len(groups(root)) == layers * len(kinds)
    assert sum(text.startswith("layer ") for text in texts(root)) == layers
    width, height = float(root.get("width")), float(root.get("height"))
    assert root.get("viewBox") == f"0 0 {width:g} {height:g}"
    for box in root.iter(f"{SVG}rect"):
        assert 0 <= float(box.get("x", 0)) <= float(box.get("x", 0)) + float(box.get("width")) <= width
        assert 0 <= float(box.get("y", 0)) <= float(box.get("y", 0)) + float(box.get("height")) <= height
    for text in root.iter(f"{SVG}text"):
        # a character of the widest fonts is some 0.62 of the size wide, a bold one 0.7
        wide = len(text.text) * float(text.get("font-size")) * (0.7 if text.get("font-weight") == "bold" else 0.62)
        start = float(text.get("x")) - {"start": 0, "middle": 0.5, "end": 1}[text.get("text-anchor")] * wide
        assert start >= 0
        assert start + wide <= width
        assert float(text.get("y")) <= height - 4


def test_boxes_of_slots_do_not_overlap(summary):
    boxes = [group.find(f"{SVG}rect") for group in groups(parse(summary)).values()]
    places = [[float(box.get(name)) for name in ("x", "y", "width", "height")] for box in boxes]
    for i, (x, y, width, height) in enumerate(places):
        for other_x, other_y, other_width, other_height in places[:i]:
            apart = x >= other_x + other_width or other_x >= x + width
            assert apart or y >= other_y + other_height or other_y >= y + height


def test_a_slot_pruned_in_no_known_round_is_still_drawn_as_pruned(summary):
    assert texts(groups(parse(replace(summary, removals=())))["SA.3"]) == ["pruned"]


def test_names_are_escaped(summary):
    odd = replace(summary, task="<b>&\"'\x00\x1b]]>\ud800.csv", model="a&lt;<script>")
    text = summary_svg(odd)
    text.encode("utf-8")
    root = ElementTree.fromstring(text)
    assert root.find(f"{SVG}title").text.startswith("PEFT architecture for <b>&\"'")
    assert not list(root.iter(f"{SVG}script"))
    assert not list(root.iter(f"{SVG}b"))


def test_the_picture_needs_nothing_from_outside(summary):
    text = summary_svg(summary)
    assert re.findall(r"https?://[^\"'\s]+", text) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"href|url\(|@import|<image|<script|<style|<!DOCTYPE", text)


def test_the_same_run_gives_the_same_bytes(summary):
    assert summary_svg(summary) == summary_svg(summary)


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_on_boxes_has_enough_contrast():
    assert set(COLOURS) == set(KIND_TITLES)
    for box, ink in COLOURS.values():
        dark, light = sorted([luminance(box), luminance(ink)])
        assert (light + 0.05) / (dark + 0.05) > 4.5


@pytest.mark.parametrize("stage", [lambda folder: None, add_search])
def test_an_unfinished_run_cannot_be_drawn(tmp_path, stage):
    folder = start_run(tmp_path / "run")
    stage(folder)
    with pytest.raises(InputError, match="has not finished"):
        summary_svg(summarise(folder))
