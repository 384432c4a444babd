"""What the plan of a search refuses before anything is loaded or started."""

import pytest

from prunepeft_ray.config import load_spec
from prunepeft_ray.errors import InputError
from prunepeft_ray.execution.plan import plan_search


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("pruning.profile=papre", "unknown profile 'papre': did you mean 'paper'"),
        ("warmup.select=frequent", "unknown warm-up selector 'frequent': did you mean 'frequency'"),
    ],
)
def test_an_unknown_profile_or_selector_is_refused_whether_or_not_the_method_uses_it(setting, message):
    spec = load_spec(None, {"model": "m", "task": "t", "budget": "1"}, [setting])
    with pytest.raises(InputError, match=message):
        plan_search(spec, None, None)
