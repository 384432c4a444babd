"""The page that walks through cluster/: everything that is there is on it, and what it names is there."""

import re

import pytest
from cluster_release import CLUSTER, IMAGES, ROOT

PAGE = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
FILES = [path for path in sorted(CLUSTER.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CLUSTER)))
def test_the_page_links_to_every_file(path):
    assert f"](../{path.relative_to(ROOT)})" in PAGE


def test_every_path_on_the_page_is_there():
    named = set(re.findall(r"(?<![\w/-])(?:\.\./)?((?:cluster|tests)/[\w./-]*\w)", PAGE))
    assert named
    assert not [path for path in named if not (ROOT / path).exists()]


def test_the_page_builds_the_images_of_this_release():
    assert set(re.findall(r"prunepeft-ray:[\w.-]*\w", PAGE)) == set(IMAGES.values())


def test_every_heading_that_the_page_refers_to_is_there():
    headings = {re.sub(r"[^\w -]", "", name).lower().replace(" ", "-") for name in re.findall(r"^#+ (.*)$", PAGE, re.M)}
    assert set(re.findall(r"\]\(#([\w-]+)\)", PAGE)) <= headings
