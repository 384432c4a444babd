import pytest

from prunepeft_ray.errors import InputError, PrunePEFTError, RunError, unknown


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
