"""What all tests share: an offline environment first, then tiny random models as local folders."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
# tests must neither read the user's pool of finished jobs nor add to it
os.environ["PRUNEPEFT_POOL"] = "off"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest
import torch
from clusters import bench, cluster, mark_and_sort
from hypothesis import settings
from s3 import bucket, s3_server
from tiny import make_tiny_model

__all__ = ["bench", "bucket", "cluster", "s3_server"]

torch.set_num_threads(1)
settings.register_profile("offline", max_examples=50, deadline=None, derandomize=True, database=None)
settings.load_profile("offline")


# a wrapper comes before pytest and its plugins look at the marks
@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items):
    mark_and_sort(items)
    return (yield)


@pytest.fixture(scope="session", autouse=True)
def _own_state(tmp_path_factory):
    """Keep what tests remember of plugins and clusters, and what they cache, out of the user's own folders."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRUNEPEFT_STATE", str(tmp_path_factory.mktemp("state")))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory):
    """Paths of tiny random models by family: ``bert`` and ``roberta`` of 4 layers, ``llama`` of 5; hidden size 32."""
    root = tmp_path_factory.mktemp("models")
    return {family: str(make_tiny_model(family, root / family)) for family in ("bert", "roberta", "llama")}


@pytest.fixture(scope="session")
def tiny_bert(tiny_models):
    """Path of a BERT of 4 layers, hidden size 32, 4 heads."""
    return tiny_models["bert"]


@pytest.fixture(scope="session")
def tiny_roberta(tiny_models):
    """Path of a RoBERTa of 4 layers, hidden size 32, 4 heads."""
    return tiny_models["roberta"]


@pytest.fixture(scope="session")
def tiny_llama(tiny_models):
    """Path of a Llama of 5 layers, hidden size 32, 4 heads, 2 of them for keys and values."""
    return tiny_models["llama"]


@pytest.fixture(scope="session")
def small_task(tmp_path_factory):
    """Path of a CSV file of 100 sentences, which a tiny model learns in seconds."""
    from execution_toys import write_task

    return write_task(tmp_path_factory.mktemp("task") / "small.csv")
