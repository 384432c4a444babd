"""Training of a single job (data, optimiser, loop, metrics, cost), and use of the trained adapter."""

from prunepeft_ray.training.arithmetic import arithmetic_of, content_digest
from prunepeft_ray.training.batches import batch_parts, default_micro_batches
from prunepeft_ray.training.checkpoint import DamagedCheckpointError, Keeper, State, pack, unpack
from prunepeft_ray.training.encoding import EncodedSplit, EncodedTask, cut_line, encode_task
from prunepeft_ray.training.group import DistributedGroup, Group, SoloGroup
from prunepeft_ray.training.loop import Trained, train
from prunepeft_ray.training.memory import is_out_of_memory
from prunepeft_ray.training.prediction import Prediction, Predictor, load_adapter
from prunepeft_ray.training.prefix_cache import PrefixCache

__all__ = [
    "DamagedCheckpointError",
    "DistributedGroup",
    "EncodedSplit",
    "EncodedTask",
    "Group",
    "Keeper",
    "Prediction",
    "Predictor",
    "PrefixCache",
    "SoloGroup",
    "State",
    "Trained",
    "arithmetic_of",
    "batch_parts",
    "content_digest",
    "cut_line",
    "default_micro_batches",
    "encode_task",
    "is_out_of_memory",
    "load_adapter",
    "pack",
    "train",
    "unpack",
]
