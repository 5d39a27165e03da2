"""What a push sends: the files of a folder, and the metadata that they themselves give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aiaas_async.errors import InvalidError
from aiaas_async.formats.graphfile import FILE_NAME as GRAPH_FILE
from aiaas_async.formats.onnxfile import OnnxFile, read_onnx
from aiaas_async.formats.strictjson import parse_object
from aiaas_async.names import WARM_UPS, clip

ONNX_SUFFIX: Final = ".onnx"
METADATA_FILE: Final = "metadata.json"
_MAX_METADATA: Final = 1 << 20
_PICKLES: Final = frozenset({".pkl", ".pickle", ".pt", ".pth", ".joblib", ".dill"})
_BUILT_IN: Final = frozenset({"numpy", "onnx"})


@dataclass(frozen=True, slots=True)
class Contents:
    """`files` by their labels; `metadata` lacks name and version, None if nothing gives any; `onnx`
    is the only *.onnx file, read, where no graph.json goes before it."""

    files: dict[str, Path]
    metadata: dict[str, Any] | None
    onnx: tuple[str, OnnxFile] | None = None

    def nbytes(self) -> int:
        return sum(path.stat().st_size for path in self.files.values())

    def check_runtime(self, runtime: str) -> None:
        """Raise `InvalidError` where `runtime` will not load these files, as far as they tell."""
        pickles = self._ending(*_PICKLES)
        if runtime in _BUILT_IN and len(pickles) == len(self.files):
            raise InvalidError(_no_pickle(pickles[0]))
        if runtime == "onnx" and self.onnx is not None:
            label, model = self.onnx
            others = [each for each in self.files if not each.startswith(WARM_UPS)]
            model.check_used([each for each in others if each != label])

    def what_is_missing(self) -> str:
        """What to give instead, where nothing says what the files take."""
        models, first = self._ending(ONNX_SUFFIX), next(iter(self.files))
        if pickles := self._ending(*_PICKLES):
            return _no_pickle(pickles[0])
        if len(models) > 1:
            return (
                f"the folder holds {len(models)} {ONNX_SUFFIX} files ({', '.join(models[:3])}), "
                f"and a version is one: give the file"
            )
        if list(self.files) == [first] and first == self.files[first].name:
            return (
                f"{clip(first)} alone does not say what it takes: give the folder that holds it, "
                f"with its {GRAPH_FILE}, or give metadata with its inputs and outputs"
            )
        return (
            f"there is no {METADATA_FILE} or {GRAPH_FILE} to say what it takes: give metadata "
            "with its inputs and outputs"
        )

    def _ending(self, *suffixes: str) -> list[str]:
        return [label for label in self.files if label.lower().endswith(suffixes)]


def _no_pickle(label: str) -> str:
    return (
        f"{clip(label)} is a pickle, and pickles are not loaded: they run code. Export the model "
        "to ONNX, or serve it by a runtime of your own: [runtimes] in the settings, and its name "
        "as runtime in the metadata"
    )


def examine(source: Path) -> Contents:
    """The contents of a file or folder; hidden files are left out. Raises `InvalidError`, also for
    a link in the folder that leads out of it: what lies there was hardly meant to be uploaded."""
    if source.is_file():
        files = {source.name: source}
        onnx = _onnx_of(files)
        return Contents(files, _onnx_signature(onnx), onnx)
    if not source.is_dir():
        raise InvalidError(f"{clip(str(source))} is neither a file nor a folder")
    found = [
        path
        for path in sorted(source.rglob("*"))
        if not any(part.startswith(".") for part in path.relative_to(source).parts)
    ]
    _check_links(source, found)
    files = {
        label: path
        for path in found
        if path.is_file() and (label := path.relative_to(source).as_posix()) != METADATA_FILE
    }
    if not files:
        raise InvalidError(f"the folder {clip(source.name)} holds no files to upload")
    onnx = None if GRAPH_FILE in files else _onnx_of(files)
    return Contents(files, _metadata(source, onnx), onnx)


def _check_links(source: Path, found: Sequence[Path]) -> None:
    root = source.resolve()
    links = [path for path in found if path.is_symlink()]
    leading_out = [path for path in links if not path.resolve().is_relative_to(root)]
    if leading_out:
        named = [path.relative_to(source).as_posix() for path in leading_out]
        raise InvalidError(
            f"links lead out of the folder {clip(source.name)}: {clip(named)}; put copies of the "
            "files there instead, or remove the links"
        )


def _metadata(folder: Path, onnx: tuple[str, OnnxFile] | None) -> dict[str, Any] | None:
    """From metadata.json; the signature from graph.json or an ONNX file where it says none."""
    given = _object(folder / METADATA_FILE)
    graph = _object(folder / GRAPH_FILE)
    if graph is None:
        graph = _onnx_signature(onnx)
    if given is None and graph is None:
        return None
    graph = graph or {}
    signature: dict[str, Any] = {
        key: graph[key] for key in ("inputs", "outputs", "runtime") if key in graph
    }
    return {**signature, **(given or {})}


def _onnx_of(files: Mapping[str, Path]) -> tuple[str, OnnxFile] | None:
    """The only *.onnx file; None where there is none, or several."""
    found = [(label, path) for label, path in files.items() if label.endswith(ONNX_SUFFIX)]
    if len(found) != 1:
        return None
    label, path = found[0]
    return label, read_onnx(path, label)


def _onnx_signature(onnx: tuple[str, OnnxFile] | None) -> dict[str, Any] | None:
    """What it takes and gives, by name."""
    if onnx is None:
        return None
    _, model = onnx
    return {"inputs": list(model.inputs), "outputs": list(model.outputs), "runtime": "onnx"}


def _object(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    if path.stat().st_size > _MAX_METADATA:
        raise InvalidError(f"{path.name} has over {_MAX_METADATA} bytes")
    return parse_object(path.read_bytes(), path.name, 16)
