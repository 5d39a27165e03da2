"""The runtime "onnx": one ONNX model, run by onnxruntime on the CPU threads of its worker.

Weights outside the model are files of the artifact: they are mapped and handed over in memory
under the name the model gives them, so no name out of a model ever becomes a path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime

from aiaas_async.errors import ArtifactError, InputError
from aiaas_async.formats.onnxfile import OnnxFile, map_file, read_onnx
from aiaas_async.messages import TensorSpec
from aiaas_async.names import clip
from aiaas_async.nn.team import threads_at_start
from aiaas_async.runtimes.base import Array, Arrays, Artifact, Inspection
from aiaas_async.runtimes.contract import asked, check_inputs, texts
from aiaas_async.runtimes.onnxerrors import told
from aiaas_async.runtimes.onnxsignature import Tensor, read_tensors, specs_of

MODEL_SUFFIX: Final = ".onnx"
_FATAL: Final = 4  # only: what onnxruntime logs comes back as an exception too
_OPTIONS: Final = {
    # An idle pool must not spin on cores that other nodes compute on.
    "session.intra_op.allow_spinning": "0",
    "session.inter_op.allow_spinning": "0",
    # Another format would not have been read by `read_onnx`.
    "session.load_model_format": "ONNX",
}

onnxruntime.set_default_logger_severity(_FATAL)


class OnnxRuntime:
    def inspect(self, artifact: Artifact) -> Inspection:
        """Loads, since only that shows that onnxruntime knows every operator."""
        model = self.load(artifact)
        return Inspection(model.inputs, model.outputs, model.nbytes, model.deterministic)

    def load(self, artifact: Artifact) -> OnnxModel:
        label, path = _model_file(artifact)
        file = read_onnx(path, label)
        _check_files(artifact, label, file)
        outside = {
            name: memoryview(map_file(artifact.files[name], f"the file {clip(name)}"))
            for name in sorted(file.locations)
        }
        session = _session(path, outside)
        nbytes = file.size + sum(map(len, outside.values()))
        return OnnxModel(
            session,
            read_tensors("input", session.get_inputs(), file.shapeless),
            read_tensors("output", session.get_outputs(), file.shapeless),
            nbytes,
            not file.random,
        )


def _model_file(artifact: Artifact) -> tuple[str, Path]:
    if artifact.graph is not None:
        raise ArtifactError("runtime onnx takes no 'graph': the model file holds it")
    found = [label for label in artifact.files if label.endswith(MODEL_SUFFIX)]
    if len(found) != 1:
        raise ArtifactError(
            f"one {MODEL_SUFFIX} file expected, got {len(found)}: "
            f"{clip(sorted(found or artifact.files))}"
        )
    return found[0], artifact.files[found[0]]


def _check_files(artifact: Artifact, label: str, file: OnnxFile) -> None:
    """Raise `ArtifactError` unless the artifact is the model and the files it names."""
    others = artifact.files.keys() - {label}
    if missing := file.locations - others:
        raise ArtifactError(
            f"the model keeps weights in {clip(sorted(missing))}, which the artifact does not "
            "have: upload them under exactly these names",
            {"missing": sorted(missing)[:20]},
        )
    file.check_used(others)


def _session(path: Path, outside: Mapping[str, memoryview]) -> onnxruntime.InferenceSession:
    """`outside` is copied from, and need not outlive this call."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads_at_start()
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _FATAL
    for key, value in _OPTIONS.items():
        options.add_session_config_entry(key, value)
    if outside:
        names, buffers = list(outside), list(outside.values())
        sizes = [len(buffer) for buffer in buffers]
        options.add_external_initializers_from_files_in_memory(names, buffers, sizes)
    try:
        return onnxruntime.InferenceSession(
            str(path),
            options,
            ["CPUExecutionProvider"],
            enable_fallback=0,  # it would try again, and print
        )
    except Exception as error:
        raise told(error, "onnxruntime cannot load the model", ArtifactError, path) from error


@dataclass(slots=True)
class OnnxModel:
    """A session. A model that fixes its batch at one is run item by item."""

    session: onnxruntime.InferenceSession | None
    takes: tuple[Tensor, ...]
    gives: tuple[Tensor, ...]
    nbytes: int
    deterministic: bool = False
    inputs: tuple[TensorSpec, ...] = field(init=False)
    outputs: tuple[TensorSpec, ...] = field(init=False)
    item_by_item: bool = field(init=False)

    def __post_init__(self) -> None:
        self.inputs, self.outputs = specs_of(self.takes), specs_of(self.gives)
        self.item_by_item = any(tensor.is_one_item for tensor in (*self.takes, *self.gives))

    def predict(self, arrays: Arrays, outputs: Sequence[str] | None) -> dict[str, Array]:
        names = asked(outputs, self.outputs)
        rows = check_inputs(arrays, self.inputs)
        if self.item_by_item:
            found = self._one_by_one(names, arrays, rows)
        else:
            found = self._run(names, arrays)
        return {n: texts(a, n) if a.dtype.kind == "O" else a for n, a in found.items()}

    def _one_by_one(self, names: list[str], arrays: Arrays, rows: int) -> dict[str, Array]:
        if rows == 0:
            raise InputError("the batch is empty: give at least one item")
        feeds = [{t.name: t.of_item(arrays[t.name], i) for t in self.takes} for i in range(rows)]
        items = [self._run(names, feed) for feed in feeds]
        return {name: _stacked(name, [item[name] for item in items]) for name in names}

    def _run(self, names: list[str], arrays: Arrays) -> dict[str, Array]:
        assert self.session is not None
        try:
            found: list[Any] = self.session.run(names, dict(arrays))
        except Exception as error:
            raise told(error, "the model cannot run on these inputs", InputError) from error
        return dict(zip(names, map(np.asarray, found), strict=True))

    def close(self) -> None:
        self.session = None


def _stacked(name: str, items: Sequence[Array]) -> Array:
    """The outputs of single items as those of a batch."""
    shapes = {item.shape for item in items}
    first = items[0]
    if len(shapes) > 1:
        raise InputError(
            f"output {name!r} has another shape for each of these items, "
            f"{clip(sorted(shapes))}: send them one by one"
        )
    if first.ndim and len(first) != 1:
        raise ArtifactError(f"output {name!r} has shape {list(first.shape)} for one item")
    return np.concatenate(items) if first.ndim else np.stack(items)
