import getpass
import platform
import re
import socket
from pathlib import Path

import pytest

from prunepeft_ray.results import hardware, versions


@pytest.mark.parametrize("facts", [versions, hardware])
def test_nothing_tells_whose_machine_it_was(facts):
    found = facts()
    assert found
    assert all(isinstance(key, str) and isinstance(value, str) and value for key, value in found.items())
    told = " ".join(found.values())
    for secret in {socket.gethostname(), platform.node(), str(Path.home()), str(Path.cwd())} - {""}:
        assert secret not in told
    assert not re.search(rf"\b{re.escape(getpass.getuser())}\b", told)
    # a slash may stand in a processor's name, an absolute path may not
    assert not re.search(r"(^|\s)[/\\~]|[A-Z]:\\", told)


def test_versions_and_hardware_say_what_results_depend_on():
    assert {"python", "prunepeft-ray", "torch", "transformers", "peft", "ray"} <= set(versions())
    assert versions()["python"] == platform.python_version()
    assert {"cpu", "cores", "memory_gib"} <= set(hardware())
    assert int(hardware()["cores"]) >= 1
