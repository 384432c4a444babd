import pytest

from prunepeft_ray.cluster import Terms
from prunepeft_ray.errors import InputError


def test_terms_have_no_limits_unless_given():
    assert Terms() == Terms(job="", priority=0, cpus=None, gpus=None)
    assert Terms("a", -10, 0.5, 8).cpus == 0.5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"priority": 11}, "priority 11: expected -10 to 10"),
        ({"priority": -11}, "priority -11: expected -10 to 10"),
        ({"cpus": 0}, "at most 0 CPUs: expected a number greater than 0"),
        ({"gpus": -1.5}, "at most -1.5 GPUs: expected a number greater than 0"),
        ({"gpus": float("inf")}, "at most inf GPUs: expected a number greater than 0"),
        ({"cpus": float("nan")}, "at most nan CPUs: expected a number greater than 0"),
    ],
    ids=["high", "low", "no CPUs", "fewer GPUs", "inf", "nan"],
)
def test_terms_that_make_no_sense_are_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        Terms(**wrong)
