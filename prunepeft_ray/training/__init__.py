"""Training one job: data, optimiser, loop, metrics, cost; and using what came of it."""

from prunepeft_ray.training.encoding import EncodedSplit, EncodedTask, encode_task
from prunepeft_ray.training.group import DistributedGroup, Group, SoloGroup
from prunepeft_ray.training.loop import Trained, default_micro_batches, train
from prunepeft_ray.training.prediction import Prediction, Predictor, load_adapter

__all__ = [
    "DistributedGroup",
    "EncodedSplit",
    "EncodedTask",
    "Group",
    "Prediction",
    "Predictor",
    "SoloGroup",
    "Trained",
    "default_micro_batches",
    "encode_task",
    "load_adapter",
    "train",
]
