import pytest

from prunepeft_ray.errors import (
    MAX_MESSAGE,
    MAX_QUOTE,
    InputError,
    PrunePEFTError,
    RunError,
    quoted,
    shortened,
    unknown,
)


def test_exit_codes():
    assert (InputError("").exit_code, RunError("").exit_code, PrunePEFTError("").exit_code) == (2, 1, 1)


def test_both_kinds_can_be_caught_as_one():
    for kind in (InputError, RunError):
        with pytest.raises(PrunePEFTError):
            raise kind("reason")


def test_wrong_input_is_no_failure_of_a_run():
    assert not issubclass(InputError, RunError)
    assert not issubclass(RunError, InputError)


def test_an_unknown_name_gets_the_nearest_and_all_known_in_order():
    error = unknown("criterion", "gradint", ["weight", "gradient", "gate"])
    assert isinstance(error, InputError)
    assert str(error) == "unknown criterion 'gradint': did you mean 'gradient'? known: gate, gradient, weight"


def test_an_unknown_name_like_no_other_gets_all_known():
    assert str(unknown("task", "xyz", iter(["rte", "cola"]))) == "unknown task 'xyz': known: cola, rte"


def test_a_message_that_names_too_much_loses_its_middle():
    assert str(InputError("x" * MAX_MESSAGE)) == "x" * MAX_MESSAGE
    message = str(RunError("begin " + "x" * 10**6 + " end"))
    assert len(message) < MAX_MESSAGE + 1
    assert (message[:6], message[-4:]) == ("begin ", " end")


def test_short_values_are_quoted_whole():
    for value in (1, 2.5, "text", None, ["a", 1], {"a": 1}):
        assert quoted(value) == repr(value)


def test_long_and_deep_values_are_quoted_in_part():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    for value in (deep, "x" * 10**6, list(range(10**6)), dict.fromkeys(range(1000), "x" * 1000), KeyError("x" * 10**6)):
        assert len(quoted(value)) <= MAX_QUOTE


def test_both_ends_of_a_shortened_text_are_kept():
    assert shortened("abcdefghij", 10) == "abcdefghij"
    assert shortened("abcdefghijk", 9) == "abc...ijk"


def test_a_name_of_any_length_is_compared_with_the_known_ones_at_once():
    assert len(str(unknown("task", "x" * 10**6, ["rte", "cola"]))) < MAX_QUOTE + 50
