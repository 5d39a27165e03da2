"""Runtimes of the operator's own: a Python class that the server's configuration names.

    [runtimes.pipeline]
    target = "shop.serving:Pipeline"

The server imports it once as it starts (`service/ownruntimes.py`), so that a mistake shows then.
An installed package may offer one as well, as an entry point of the group `aiaas_async.runtimes`.
For each loaded version one object of the class is made, without arguments, inside the worker:

    load(files, graph)      label → path of its files; the registered graph, or None
    predict(arrays)         a batch by input name → all outputs by name, one row per row
    stream(arrays)                                  optional: the outputs in parts (an iterator)
    loss(inputs, targets, loss, output)             optional: the mean loss
    gradient(inputs, targets, loss, output, wrt)    optional: loss, by input, by parameter
    close()                                         optional
    deterministic = True                            optional: answers depend on the inputs alone,
                                                    so that a deployment may cache them

The signature is what the version was registered with. With inputs named `sequence_id`,
`sequence_start` and `sequence_end` a version is told which sequence each call belongs to: its
calls then come to one object, in order, and it may keep state (`wire/sequences.py`). The arrays
that a method is given are its own, to keep or to change. Code is never taken from a request.
"""

from __future__ import annotations

import importlib
import logging
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, cast

import numpy as np

from aiaas_async.errors import AiaasError, ArtifactError, InvalidError, WorkerError
from aiaas_async.messages import TensorSpec
from aiaas_async.names import clip
from aiaas_async.runtimes.base import Array, Arrays, Artifact, Inspection, Wrt
from aiaas_async.runtimes.contract import asked, check_inputs, promised

logger = logging.getLogger(__name__)

_DOTTED: Final = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*"
_TARGET: Final = re.compile(f"{_DOTTED}:{_DOTTED}", re.ASCII)


class Custom(Protocol):
    """What a class must offer; the module's docstring names the rest."""

    def load(self, files: Mapping[str, Any], graph: Mapping[str, Any] | None) -> object: ...

    def predict(self, arrays: Arrays) -> Mapping[str, Array]: ...


def check_target(name: str, target: str) -> str:
    """Return `target` if it reads "package.module:Class", else raise `InvalidError`."""
    if not isinstance(target, str) or not _TARGET.fullmatch(target):
        raise InvalidError(
            f"runtime {name}: target must read 'package.module:Class', got {clip(target)}"
        )
    return target


class CustomRuntime:
    """The class is imported when a version first asks for it."""

    def __init__(self, name: str, target: str) -> None:
        self._name, self._target = name, check_target(name, target)

    def inspect(self, artifact: Artifact) -> Inspection:
        model = self.load(artifact)
        found = Inspection(model.inputs, model.outputs, model.nbytes, model.deterministic)
        model.close()
        return found

    def load(self, artifact: Artifact) -> CustomModel:
        for side, specs in (("inputs", artifact.inputs), ("outputs", artifact.outputs)):
            _check_typed(self._name, side, specs)
        made = self._made()
        try:
            made.load(artifact.files, artifact.graph)
        except (AiaasError, MemoryError):
            raise
        except Exception as error:
            logger.exception("runtime %s failed to load an artifact", self._name)
            raise ArtifactError(
                f"runtime {self._name} cannot load these files ({type(error).__name__}); "
                "the server's log says more"
            ) from error
        nbytes = sum(path.stat().st_size for path in artifact.files.values())
        kind = DifferentiableModel if _has(made, "loss") else CustomModel
        return kind(made, artifact.inputs, artifact.outputs, nbytes)

    def check(self) -> None:
        """Raise `InvalidError` saying why no object can be made."""
        try:
            _object_of(self._target)
        except (Exception, SystemExit) as error:
            raise InvalidError(f"{type(error).__name__}: {error}{_place_of(error)}") from error

    def _made(self) -> Custom:
        """A new object. Raises `WorkerError`: what is wrong here only the operator can mend."""
        try:
            return _object_of(self._target)
        except Exception as error:
            logger.exception("runtime %s: %s cannot be used", self._name, self._target)
            raise WorkerError(
                f"runtime {self._name} is set up wrongly on this server "
                f"({type(error).__name__}); its log says more"
            ) from error


def _object_of(target: str) -> Custom:
    module, _, path = target.partition(":")
    found: Any = importlib.import_module(module)
    for attribute in path.split("."):
        found = getattr(found, attribute)
    made = found()
    missing = [each for each in ("load", "predict") if not _has(made, each)]
    if missing:
        raise TypeError(f"its objects have no method {missing[0]!r}")
    return cast(Custom, made)


def _place_of(error: BaseException) -> str:
    """The line of the operator's own code that led to it, as a syntax error says by itself."""
    ours = (__file__, importlib.__file__)
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename not in ours and not frame.filename.startswith("<")  # <frozen importlib…>
    ]
    if not frames or isinstance(error, SyntaxError):
        return ""
    last = [frame for frame in frames if frame.filename == frames[0].filename][-1]
    return f" ({Path(last.filename).name}, line {last.lineno})"


def _has(made: object, method: str) -> bool:
    return callable(getattr(made, method, None))


def _check_typed(name: str, side: str, specs: Sequence[TensorSpec]) -> None:
    untyped = [spec.name for spec in specs if spec.dtype is None or spec.shape is None]
    if untyped or not specs:
        raise InvalidError(
            f"runtime {name} reads no signature from files: register the {side} as "
            f"{{name, dtype, shape}}; untyped: {clip(untyped)}"
        )


@dataclass(slots=True)
class CustomModel:
    """An object of the operator's class, held to the signature on both sides."""

    made: Any
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    nbytes: int

    def predict(self, arrays: Arrays, outputs: Sequence[str] | None) -> dict[str, Array]:
        names = asked(outputs, self.outputs)
        rows = check_inputs(arrays, self.inputs)
        return self._promised(self.made.predict(_owned(arrays)), names, rows)

    def stream(self, arrays: Arrays, outputs: Sequence[str] | None) -> Iterator[dict[str, Array]]:
        """As `Streaming` has it; a class without `stream` gives its one prediction."""
        if not _has(self.made, "stream"):
            yield self.predict(arrays, outputs)
            return
        names = asked(outputs, self.outputs)
        rows = check_inputs(arrays, self.inputs)
        for part in self.made.stream(dict(arrays)):
            yield self._promised(part, names, rows)

    def _promised(self, found: Any, names: Sequence[str], rows: int) -> dict[str, Array]:
        if not isinstance(found, Mapping):
            raise ArtifactError(f"the model gave {type(found).__name__}, not outputs by name")
        return promised(found, [spec for spec in self.outputs if spec.name in names], rows)

    @property
    def deterministic(self) -> bool:
        return getattr(self.made, "deterministic", False) is True

    def close(self) -> None:
        if _has(self.made, "close"):
            self.made.close()
        self.made = None


class DifferentiableModel(CustomModel):
    """One whose class has losses, and perhaps gradients."""

    __slots__ = ()

    def loss(self, inputs: Arrays, targets: Arrays, loss: str | None, output: str | None) -> float:
        check_inputs(inputs, self.inputs)
        return float(self.made.loss(_owned(inputs), _owned(targets), loss, output))

    def gradient(
        self, inputs: Arrays, targets: Arrays, loss: str | None, output: str | None, wrt: Wrt
    ) -> tuple[float, dict[str, Array], dict[str, Array]]:
        if not _has(self.made, "gradient"):
            raise InvalidError("this version's runtime computes losses, but no gradients")
        check_inputs(inputs, self.inputs)
        value, by_input, by_parameter = self.made.gradient(
            _owned(inputs), _owned(targets), loss, output, wrt
        )
        return float(value), _arrays(by_input), _arrays(by_parameter)


def _owned(arrays: Arrays) -> dict[str, Array]:
    """Copies, which a class may keep or change: what comes lies in memory that the next job is
    laid into. 600 KB take 14 us, one row of 16 numbers 0.4."""
    return {name: array.copy() for name, array in arrays.items()}


def _arrays(found: Mapping[str, Any]) -> dict[str, Array]:
    return {name: np.asarray(array) for name, array in found.items()}
