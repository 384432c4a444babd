import pytest

from prunepeft_ray.errors import InputError
from prunepeft_ray.registry import Registry


@pytest.fixture
def registry():
    made = Registry("colour")
    made.register("red", 1)
    made.register("blue", 2)
    return made


def test_items_are_found_by_name(registry):
    assert registry["red"] == 1
    assert "blue" in registry
    assert "green" not in registry
    assert len(registry) == 2


def test_names_come_in_the_order_of_registration(registry):
    registry.register("amber", 3)
    assert list(registry) == ["red", "blue", "amber"]


def test_register_returns_the_item(registry):
    item = object()
    assert registry.register("green", item) is item


def test_a_taken_name_is_refused_and_keeps_its_item(registry):
    with pytest.raises(ValueError, match="colour 'red' is already registered"):
        registry.register("red", 9)
    assert registry["red"] == 1


def test_an_unknown_name_is_wrong_input_with_a_suggestion(registry):
    with pytest.raises(InputError, match=r"unknown colour 'blu': did you mean 'blue'\? known: blue, red"):
        registry["blu"]
