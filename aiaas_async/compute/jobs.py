"""The vocabulary of the line between the server and a worker: jobs one way, replies the other.

A job's arrays travel beside it as raw bytes (`frames.py`); the structs here only describe them.
Nothing on the line is pickled, and a worker never sees bytes a client chose as structure.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from aiaas_async.data.schema import Column
from aiaas_async.messages import TensorSpec
from aiaas_async.wire.nonfinite import OUTPUT, Words


class ArrayMeta(msgspec.Struct, frozen=True, array_like=True):
    """An array of the body: numpy dtype string ("<f4", "<U7"), shape, byte offset in the body."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int


class ArtifactFiles(msgspec.Struct, frozen=True):
    """A version's files (label → path chosen by the server), its registered layer graph, and the
    signature it was registered with, for runtimes that cannot read one from the files. `part`:
    of a split version, the submodel meant. `laid_out`: the file that `LayOut` made, if any."""

    runtime: str
    files: dict[str, str]
    graph: dict[str, Any] | None = None
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    part: dict[str, Any] | None = None
    laid_out: str = ""


class CheckRuntime(msgspec.Struct, frozen=True, tag="check_runtime"):
    """Import the class of a runtime that the configuration names, and make an object of it."""

    runtime: str


class Inspect(msgspec.Struct, frozen=True, tag="inspect"):
    """Read an artifact's headers and say what it is; nothing stays loaded."""

    artifact: ArtifactFiles


class LayOut(msgspec.Struct, frozen=True, tag="lay_out"):
    """Write the artifact's weights to `path` (chosen by the server) in the order in which they are
    computed with fastest here; the answer's fact "made" says whether there are any."""

    artifact: ArtifactFiles
    path: str


class Load(msgspec.Struct, frozen=True, tag="load"):
    """Map the artifact and keep it as `model`."""

    model: str
    artifact: ArtifactFiles


class Unload(msgspec.Struct, frozen=True, tag="unload"):
    model: str


class Texts(msgspec.Struct, frozen=True, array_like=True):
    """An input that is still to be read (`wire/unread.py`), its array one text after the other, of
    each call one: the shape of an item, the rows and bytes of each text, and whether those are the
    `raw` bytes of numbers, not JSON."""

    input: str
    item: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]
    raw: bool = False


class Infer(msgspec.Struct, frozen=True, tag="infer"):
    """Run `model` over a batch of `rows`; every array leads with the batch dimension, but for
    `texts`, which are read first: the answer's fact "unread" names the calls whose texts could not
    be, and whose rows mean nothing. `threads` for BLAS, 0: the worker's own."""

    model: str
    rows: int
    outputs: tuple[str, ...] | None = None
    threads: int = 0
    texts: tuple[Texts, ...] = ()


class InputFile(msgspec.Struct, frozen=True, array_like=True):
    """The column of a data set that goes to an input: its file (chosen by the server)."""

    input: str
    file: str
    column: Column


class Scan(msgspec.Struct, frozen=True, tag="scan"):
    """Run `model` over rows `start` to `stop` - 1 of column files, or over those that the array
    "rows" beside it picks; they are read as calls of `specs` are. The answer has the outputs, and
    the checksum of each row (`scan.CHECKSUMS`)."""

    model: str
    files: tuple[InputFile, ...]
    start: int
    stop: int
    outputs: tuple[str, ...]
    specs: tuple[TensorSpec, ...]
    allow_nonfinite: bool = False


class OpenStream(msgspec.Struct, frozen=True, tag="open_stream"):
    """Begin the answer of `model` in parts, as `stream`; it may take `seconds` until it is done."""

    model: str
    stream: str
    outputs: tuple[str, ...] | None
    seconds: float


class NextPart(msgspec.Struct, frozen=True, tag="next_part"):
    """Compute the next part of `stream`: its arrays, or no array and the fact `end`."""

    stream: str


class CloseStream(msgspec.Struct, frozen=True, tag="close_stream"):
    """Nobody waits for `stream` any more."""

    stream: str


StreamJob = OpenStream | NextPart | CloseStream


class Differentiate(msgspec.Struct, frozen=True, tag="differentiate"):
    """Loss, and gradients with respect to `wrt`; arrays are named inputs/… and targets/…."""

    model: str
    wrt: Literal["nothing", "inputs", "parameters", "both"]
    loss: str | None = None
    output: str | None = None


class Train(msgspec.Struct, frozen=True, tag="train"):
    """Train and report; `task` is read by `training/`, `directory` takes checkpoints and result."""

    artifact: ArtifactFiles
    task: dict[str, Any]
    directory: str


class TrainPart(msgspec.Struct, frozen=True, tag="train_part"):
    """Train as one worker of several: worker `rank` of those of `nodes`, which share the memory
    that the file `memory` (chosen by the server) stands for."""

    artifact: ArtifactFiles
    task: dict[str, Any]
    directory: str
    rank: int
    nodes: tuple[str, ...]
    memory: str


WITHOUT_INPUTS: Final = ""  # the name of no input


class ReadJson(msgspec.Struct, frozen=True, tag="read_json"):
    """Read the JSON in the array "body": the answer's arrays are those of `longjson.py`. `tensors`:
    whether its lists of numbers are to become arrays."""

    tensors: bool = True


class ReadInfer(msgspec.Struct, frozen=True, tag="read_infer"):
    """Read the infer request in the array "body"; the rest is what it is checked against. The
    answer's arrays are the inputs, and one more: the rest of the request, as MessagePack, of any
    length, where an answer's facts are short."""

    header_length: str | None
    model: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class WriteJson(msgspec.Struct, frozen=True, tag="write_json"):
    """Write each array as JSON: the answer's arrays are the bytes, under the same names. What JSON
    has no form of is refused in such `words`."""

    words: Words = OUTPUT


Job = (
    CheckRuntime
    | Inspect
    | LayOut
    | Load
    | Unload
    | Infer
    | Scan
    | StreamJob
    | Differentiate
    | Train
    | TrainPart
    | ReadJson
    | ReadInfer
    | WriteJson
)


class Request(msgspec.Struct, frozen=True):
    """One frame to a worker. `slot_bytes` > 0: the body lies in this job's slot, not behind."""

    number: int
    job: Job
    arrays: tuple[ArrayMeta, ...] = ()
    slot_bytes: int = 0


class Done(msgspec.Struct, frozen=True, tag="done"):
    """The job's one final answer: plain `facts`, arrays beside it, microseconds of compute."""

    facts: dict[str, Any] = {}
    compute_us: int = 0


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """One of many partial answers of a long job."""

    facts: dict[str, Any]


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The job failed and the worker lives on. Failures are values: `errors.from_code` revives."""

    code: str
    message: str
    details: dict[str, Any] = {}


class Reply(msgspec.Struct, frozen=True):
    number: int
    outcome: Done | Progress | Failed
    arrays: tuple[ArrayMeta, ...] = ()
    slot_bytes: int = 0


class Inspected(msgspec.Struct, frozen=True):
    """The facts of a finished `Inspect` or `Load`; `nbytes` is what stays resident when loaded.
    `deterministic` (of an `Inspect`): answers depend on the inputs alone."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    nbytes: int
    deterministic: bool = False
