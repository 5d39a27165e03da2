"""What every runtime offers: look at an artifact, load it, run it, differentiate it if it can."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from numpy.typing import NDArray

from aiaas_async.messages import TensorSpec

Array = NDArray[Any]
Arrays = Mapping[str, Array]
Wrt = Literal["inputs", "parameters", "both"]


@dataclass(frozen=True, slots=True)
class Artifact:
    """A version's files by the user's label (paths are the server's), its layer graph if it was
    registered with one, and the signature it was registered with. `part` takes the graph's place:
    one submodel of the version, as `nn/submodel.py` describes it. `laid_out` is what a `LaysOut`
    runtime wrote for it."""

    files: Mapping[str, Path]
    graph: Mapping[str, Any] | None = None
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    part: Mapping[str, Any] | None = None
    laid_out: Path | None = None


@dataclass(frozen=True, slots=True)
class Inspection:
    """What an artifact is, from headers alone; `nbytes` stay resident once it is loaded.
    `deterministic`: its answers depend on its inputs alone."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    nbytes: int
    deterministic: bool = False


class Model(Protocol):
    """A loaded artifact. Arrays lead with the batch dimension."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...

    @property
    def nbytes(self) -> int: ...

    def predict(self, arrays: Arrays, outputs: Sequence[str] | None) -> dict[str, Array]:
        """The outputs by name (None: all). Raises `InputError`."""
        ...

    def close(self) -> None:
        """Give back what the model holds; it is not used afterwards."""
        ...


@runtime_checkable
class Streaming(Model, Protocol):
    """A model that gives its answer in parts."""

    def stream(self, arrays: Arrays, outputs: Sequence[str] | None) -> Iterator[dict[str, Array]]:
        """The parts, each computed when it is asked for. Raises `InputError`, also later on."""
        ...


@runtime_checkable
class Differentiable(Model, Protocol):
    """A model with losses. `targets` has one entry: the output's name, or any name.

    `loss` and `output` default to what `nn/head.py` finds for the graph.
    """

    def loss(self, inputs: Arrays, targets: Arrays, loss: str | None, output: str | None) -> float:
        """The mean loss over the batch."""
        ...

    def gradient(
        self, inputs: Arrays, targets: Arrays, loss: str | None, output: str | None, wrt: Wrt
    ) -> tuple[float, dict[str, Array], dict[str, Array]]:
        """The loss, its gradients by input and by parameter; what `wrt` leaves out is empty."""
        ...


class Runtime(Protocol):
    def inspect(self, artifact: Artifact) -> Inspection:
        """Read headers only. Raises `ArtifactError` or `GraphError` when it cannot be loaded."""
        ...

    def load(self, artifact: Artifact) -> Model:
        """Make it ready to run. Raises as `inspect` does."""
        ...


@runtime_checkable
class LaysOut(Runtime, Protocol):
    """A runtime that computes faster with weights in another order than the artifact's."""

    def lay_out(self, artifact: Artifact, path: Path) -> bool:
        """Write the weights in that order to `path`, for all who load the artifact on this machine
        to map. False: there are none, and no file. Raises as `load` does, and `StorageError`."""
        ...
