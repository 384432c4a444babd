"""What the plan of a search refuses before anything is loaded or started."""

from types import SimpleNamespace

import pytest

from prunepeft_ray.config import load_spec
from prunepeft_ray.errors import InputError
from prunepeft_ray.execution.plan import plan_search
from prunepeft_ray.execution.search.run import _idle_line


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


@pytest.mark.parametrize(("parts", "workers", "idle"), [(2, 2, None), (2, 1, None), (2, 4, "2 of 4 are idle")])
def test_idle_workers_are_told(parts, workers, idle):
    line = _idle_line(parts, SimpleNamespace(world=workers))
    assert line is None if idle is None else line.endswith(idle)
