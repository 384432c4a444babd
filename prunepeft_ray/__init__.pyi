from .analysis import Results, compare_study, open_results, summarise
from .api import compare, resume, search, track
from .architecture import Architecture, Module, ModuleCost, Slot, Space, check_holds_slot, partition_of
from .cluster import Terms
from .config import CandidateConfig, Config, SearchSpec, TaskConfig, load_spec
from .criteria import CRITERIA, Criterion
from .errors import InputError, PrunePEFTError, RunError
from .jobs import Decision, Method, TrainJob, TrainResult, Work
from .methods import METHODS, MethodInfo, NoOptions, Problem
from .modules import MODULE_TYPES
from .pareto import hypervolume, pareto_front
from .pruning import GeneratorMethod, PrunePEFT, Steps, Strategy, make_job, slots_per_round, slots_to_remove
from .report import build_report, write_report
from .results import ResultsStore, RunFolder
from .seeds import derive_seed
from .service import Client
from .study import JsonFile
from .tasks import TASKS, TaskData, TaskSource, load_task
from .training import Predictor, load_adapter

__all__ = [
    "CRITERIA",
    "METHODS",
    "MODULE_TYPES",
    "TASKS",
    "Architecture",
    "CandidateConfig",
    "Client",
    "Config",
    "Criterion",
    "Decision",
    "GeneratorMethod",
    "InputError",
    "JsonFile",
    "Method",
    "MethodInfo",
    "Module",
    "ModuleCost",
    "NoOptions",
    "Predictor",
    "Problem",
    "PrunePEFT",
    "PrunePEFTError",
    "Results",
    "ResultsStore",
    "RunError",
    "RunFolder",
    "SearchSpec",
    "Slot",
    "Space",
    "Steps",
    "Strategy",
    "TaskConfig",
    "TaskData",
    "TaskSource",
    "Terms",
    "TrainJob",
    "TrainResult",
    "Work",
    "build_report",
    "check_holds_slot",
    "compare",
    "compare_study",
    "derive_seed",
    "hypervolume",
    "load_adapter",
    "load_spec",
    "load_task",
    "make_job",
    "open_results",
    "pareto_front",
    "partition_of",
    "resume",
    "search",
    "slots_per_round",
    "slots_to_remove",
    "summarise",
    "track",
    "write_report",
]
