"""Everything private of Ray that the package relies on is as it expects; docs/ray.md says what to do when one fails."""

import inspect
import logging
import mmap
import re
import subprocess
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
from ray.train import ScalingConfig
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from prunepeft_ray.cluster.private_ray import node, train, tune, wording
from prunepeft_ray.cluster.private_ray.autoscaling import GROUP_LABEL

INSTALLED = Path(ray.__file__).parent
PACKAGE = Path(node.__file__).parents[2]


def parameters(function):
    return list(inspect.signature(function).parameters)


@pytest.fixture(scope="module")
def sources():
    """All of Ray's Python, but for what is never used."""
    left_out = {"rllib", "data", "llm", "serve"}
    files = [file for file in INSTALLED.rglob("*.py") if file.relative_to(INSTALLED).parts[0] not in left_out]
    return "\n".join(file.read_text(encoding="utf-8", errors="replace") for file in files)


def holds(binary, text):
    with binary.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(text.encode()) >= 0


# --- node


def test_a_node_asks_one_function_for_its_address_and_one_flag_whether_others_may_join(monkeypatch):
    from ray._private import ray_constants, services
    from ray._private.parameter import RayParams

    monkeypatch.setattr(services, "get_node_ip_address", services.get_node_ip_address)
    monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", False)
    asked = RayParams(ray_client_server_port=10001)
    node.keep_to_loopback(asked, True)
    assert services.get_node_ip_address() == services.get_node_ip_address("8.8.8.8:53") == node.LOOPBACK
    assert ray_constants.ENABLE_RAY_CLUSTER is True
    assert asked.ray_client_server_port is None


def test_ray_start_calls_the_hook_that_the_environment_names_with_parameters_and_head(sources):
    assert "load_class(os.environ[ray_constants.RAY_START_HOOK])(ray_params, head)" in sources
    assert f'RAY_START_HOOK = "{wording.START_HOOK}"' in sources


@pytest.mark.parametrize(("value", "expected"), [("0", False), ("1", True)])
def test_settings_that_ray_read_when_it_was_imported_are_read_again(monkeypatch, value, expected):
    from ray._private import ray_constants

    monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", not expected)
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", value)
    node.reread_settings()
    assert expected is ray_constants.ENABLE_RAY_CLUSTER


def test_the_token_is_read_again(monkeypatch):
    from ray._raylet import AuthenticationTokenLoader

    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0123456789abcdef0123456789abcdef")
    node.reread_settings()
    assert AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True)
    monkeypatch.undo()
    node.reread_settings()


def test_a_driver_knows_its_node_its_processes_and_the_head(cluster):
    folder = Path(node.logs_folder())
    assert list(folder.glob("gcs_server*"))
    processes = node.vital_processes()
    assert set(processes) <= {"gcs_server", "raylet"}
    assert all(isinstance(process, subprocess.Popen) and process.poll() is None for process in processes.values())
    host, port = node.head_address()
    assert (host, str(port)) == tuple(ray.get_runtime_context().gcs_address.rsplit(":", 1))
    assert isinstance(node.autoscaler_status(), bytes)
    assert wording.HEAD_RESOURCE in ray.cluster_resources()


@pytest.mark.parametrize(("is_head", "kinds"), [(True, {"gcs_server", "raylet"}), (False, set())])
def test_only_the_driver_that_started_the_head_watches_its_processes(monkeypatch, is_head, kinds):
    from ray._private import ray_constants

    assert {ray_constants.PROCESS_TYPE_GCS_SERVER, ray_constants.PROCESS_TYPE_RAYLET} == {"gcs_server", "raylet"}
    own = [SimpleNamespace(process=None)]
    fake = SimpleNamespace(is_head=lambda: is_head, all_processes={"gcs_server": own, "raylet": own, "monitor": own})
    monkeypatch.setattr("ray._private.worker._global_node", fake)
    assert set(node.vital_processes()) == kinds


def test_a_node_has_what_is_asked_of_it():
    from ray._private.node import Node

    assert parameters(Node.is_head) == parameters(Node.get_logs_dir_path) == ["self"]
    assert isinstance(Node.gcs_address, property)
    assert "self.all_processes: dict" in inspect.getsource(Node.__init__)


def test_the_report_of_the_autoscaler_lies_where_it_is_looked_for(monkeypatch, sources):
    asked = []
    monkeypatch.setattr("ray.experimental.internal_kv._internal_kv_get", asked.append)
    assert node.autoscaler_status() == b""
    assert asked == ["__autoscaling_status"]
    assert 'status["autoscaler_report"] = asdict(' in sources


# --- Train


def test_errors_of_train_are_of_one_family_that_is_exported_nowhere_else():
    assert issubclass(ControllerError, train.RayTrainError)
    for name in train.__all__:
        if name.startswith("Worker") and name.endswith("Error"):
            assert issubclass(getattr(train, name), train.RayTrainError)
            assert not hasattr(ray.train, name)


def test_what_an_error_carries_is_found():
    from ray.train.v2._internal.exceptions import UserExceptionWithTraceback

    ours, late = ValueError("ours"), train.WorkerGroupStartupTimeoutError(2)
    assert ours in train.carried_errors(UserExceptionWithTraceback(ours, "traceback"))
    assert ours in train.carried_errors(train.WorkerHealthCheckFailedError("failed", ours))
    assert ours in train.carried_errors(WorkerGroupError("failed", {1: ours}))
    assert late in train.carried_errors(ControllerError(late))
    assert train.is_startup_timeout(ControllerError(late))
    assert not train.is_startup_timeout(ControllerError(ours))


def test_a_lean_trainer_lacks_the_callback_for_datasets_and_no_other():
    from ray.train.torch import TorchTrainer

    def callbacks(kind):
        made = kind(print, scaling_config=ScalingConfig(num_workers=1))
        return {type(one).__name__ for one in made._create_default_callbacks()}

    assert callbacks(TorchTrainer) - callbacks(train.LeanTrainer) == {"DatasetsCallback"}


def test_train_takes_its_backend_from_the_config_and_calls_its_start():
    from ray.train.torch.config import TorchConfig, _TorchBackend

    assert isinstance(TorchConfig.backend_cls, property)
    backend = train.WorkersMeet().backend_cls
    assert issubclass(backend, _TorchBackend)
    assert parameters(_TorchBackend.on_start) == parameters(backend.on_start)


# --- Tune


def test_a_controller_has_what_is_asked_of_it():
    from ray.tune.execution.tune_controller import TuneController

    assert "force_all" in parameters(TuneController._cleanup_cached_actors)
    assert "self._resetting_trials: Set[Trial]" in inspect.getsource(TuneController.__init__)
    calls = []
    fake = SimpleNamespace(_resetting_trials={"t"}, _cleanup_cached_actors=lambda force_all: calls.append(force_all))
    assert tune.is_resetting(fake, "t")
    assert not tune.is_resetting(fake, "u")
    tune.release_idle_actors(fake)
    assert calls == [True]


def test_a_controller_makes_the_actor_manager_that_was_put_in_its_module(monkeypatch):
    from ray.tune.execution import tune_controller

    monkeypatch.setattr(tune_controller, "RayActorManager", tune.RayActorManager)
    tune.use_our_actor_manager()
    assert tune_controller.RayActorManager is tune.ActorManager
    assert "= RayActorManager(" in inspect.getsource(tune_controller.TuneController.__init__)


def test_the_actor_manager_overrides_what_tune_calls():
    theirs = tune.RayActorManager._actor_task_failed
    assert parameters(tune.ActorManager._actor_task_failed) == parameters(theirs)
    assert "self._actor_task_failed(" in inspect.getsource(tune.RayActorManager)


# --- wording


def variables(source):
    return set(re.findall(r"[\"'`]((?:RAY|TUNE)_[A-Z_]+[A-Z])[\"'`]", source))


def test_ray_knows_every_environment_variable_that_the_package_names(sources):
    named = set[str]().union(*(variables(file.read_text(encoding="utf-8")) for file in PACKAGE.rglob("*.py")))
    assert len(named) > 20
    assert {name for name in named if f'"{name}"' not in sources} == set()


def test_ray_init_takes_a_temporary_folder():
    assert f'kwargs.pop("{wording.TEMPORARY_FOLDER}"' in inspect.getsource(ray.init)


def test_the_head_alone_has_its_resource():
    from ray._common.constants import HEAD_NODE_RESOURCE_NAME

    assert wording.HEAD_RESOURCE == HEAD_NODE_RESOURCE_NAME


def test_the_label_of_a_node_group_is_ray_s():
    from ray._raylet import RAY_NODE_GROUP_KEY

    assert GROUP_LABEL == RAY_NODE_GROUP_KEY


def test_ray_starts_by_its_module():
    assert wording.START_COMMAND[0] == "-m"
    assert wording.START_COMMAND[2] in import_module(wording.START_COMMAND[1]).cli.commands


def test_the_dashboard_answers_where_it_is_asked(sources):
    for path in (wording.VERSION_PATH, wording.CLUSTER_STATUS_PATH):
        assert f'"{path}"' in sources
    assert wording.NODES_PATH.startswith("/api/v0/")
    assert '"/api/v0/nodes"' in sources
    assert '"/api/v0/logs/{media_type}"' in sources


@pytest.mark.parametrize("name", [*wording.CHATTY_LOGGERS, wording.TUNE_LOGGER])
def test_loggers_that_are_silenced_are_those_of_modules(name):
    import_module(name)
    assert name in logging.root.manager.loggerDict


def test_lines_of_ray_s_own_in_a_log_are_recognised(sources):
    assert 'f"Running entrypoint for job ' in sources
    assert wording.is_log_line("Running entrypoint for job search: python -m prunepeft_ray")
    assert wording.is_log_line("2026-11-29 08:06:00,123\tINFO job_manager.py:1 -- started")
    assert wording.is_log_line("\x1b[33m(raylet)\x1b[0m a worker died")
    assert not wording.is_log_line("job 1 of 16: dev accuracy 0.91")


def test_ray_says_that_memory_was_low_in_these_words():
    raylet = INSTALLED / "core" / "src" / "ray" / "raylet" / "raylet"
    assert holds(raylet, "running low on memory")
    assert wording.says_out_of_memory(RuntimeError("Task was killed due to the node running low on memory."))


def test_ray_refuses_a_second_job_of_one_id_in_these_words(sources):
    assert 'f"Job with submission_id {submission_id} already exists. "' in sources
    assert wording.says_already_submitted(RuntimeError("Job with submission_id x already exists."))
