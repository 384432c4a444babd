import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunepeft_ray.architecture import Architecture, Module, ModuleCost, Slot, Space, check_budget, parse_budget
from prunepeft_ray.errors import InputError


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("300000", 300_000),
        ("300_000", 300_000),
        ("300,000", 300_000),
        ("1,234,567", 1_234_567),
        ("300k", 300_000),
        (" 300 K ", 300_000),
        ("1.5M", 1_500_000),
        ("1.1m", 1_100_000),
        ("0.5b", 500_000_000),
        (".5k", 500),
        ("5.k", 5_000),
        ("3e5", 300_000),
        ("1%", 3_553_598),
        ("0.1 %", 355_359),
        ("100%", 355_359_800),
        ("1", 1),
    ],
)
def test_budgets(text, budget):
    assert parse_budget(text, 355_359_800) == budget


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "%",
        "k",
        "one",
        "1%%",
        "1 % of it",
        "1.5.2",
        "1e",
        "0x10",
        "1T",
        "nan",
        "inf",
        "--1",
        "1,5M",
        "1,50",
        "1,5%",
    ],
)
def test_what_cannot_be_read_is_refused(text):
    with pytest.raises(InputError, match="cannot be read"):
        parse_budget(text, 1_000_000)


@pytest.mark.parametrize("text", ["0", "0%", "-5", "-1%", "0.4", "0.00001%", "1e-9"])
def test_budgets_that_allow_nothing_are_refused(text):
    with pytest.raises(InputError, match="above 0"):
        parse_budget(text, 1_000_000)


@pytest.mark.parametrize("text", ["1e999", "1e999%", "1e308b", "9" * 400])
def test_infinite_budgets_are_refused(text):
    with pytest.raises(InputError, match="too large"):
        parse_budget(text, 1_000_000)


@given(st.integers(1, 10**12), st.integers(1, 10**10))
def test_whole_numbers_are_exact(number, backbone):
    assert parse_budget(str(number), backbone) == number
    assert parse_budget(f"{number:,}", backbone) == number


@given(st.integers(1, 1000), st.integers(1000, 10**8))
def test_percentages_round_down(tenths, backbone):
    assert parse_budget(f"{tenths / 10}%", backbone) == tenths * backbone // 1000


def make_space():
    supernet = Architecture.of({Slot(0, "PA"): Module("lora", 4), Slot(0, "SA"): Module("pfeiffer", 8)})
    return Space(1, supernet, {Slot(0, "PA"): ModuleCost(10), Slot(0, "SA"): ModuleCost(20, 5)})


def test_parameters_of_a_space():
    space = make_space()
    assert space.slot_parameters(Slot(0, "PA")) == 40
    assert space.slot_parameters(Slot(0, "SA")) == 165
    assert space.slot_parameters(Slot(0, "SA"), Module("pfeiffer", 1)) == 25
    assert space.parameters(space.supernet) == 205
    assert space.parameters(Architecture()) == 0
    with pytest.raises(KeyError):
        space.parameters(Architecture.of({Slot(1, "PA"): Module("lora", 4)}))


@pytest.mark.parametrize("budget", [40, 41, 165, 204])
def test_budgets_that_leave_a_choice_pass(budget):
    check_budget(str(budget), budget, make_space())


@pytest.mark.parametrize(
    ("budget", "message"), [(205, "nothing would be pruned"), (10**9, "whole supernet"), (39, "smallest slot has 40")]
)
def test_budgets_without_a_choice_are_refused(budget, message):
    with pytest.raises(InputError, match=message):
        check_budget(str(budget), budget, make_space())
