"""What a release says of itself, and what cluster/ must agree with."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
IMAGES = {kind: f"prunepeft-ray:{VERSION}-{kind}" for kind in ("cpu", "cuda")}


def locked(package: str) -> str:
    """The version of a package that requirements.lock pins."""
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    (version,) = re.findall(rf"^{re.escape(package)}==(\S+)$", lock, re.M)
    return version
