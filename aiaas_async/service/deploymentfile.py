"""What is deployed, in a file: placed again at the next start."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from aiaas_async.errors import StorageError
from aiaas_async.formats.files import replacing
from aiaas_async.names import ModelRef
from aiaas_async.service.deploymentspec import DeploymentSpec

logger = logging.getLogger(__name__)


class Stored(msgspec.Struct, frozen=True):
    """One deployment; its spec names the version, and no alias of it."""

    id: str
    spec: DeploymentSpec

    @property
    def ref(self) -> ModelRef:
        return ModelRef(self.spec.model, self.spec.version)


@dataclass(frozen=True, slots=True)
class DeploymentFile:
    path: Path

    def write(self, deployed: Iterable[Stored]) -> None:
        """Durably, instead of what was there. Raises `StorageError`, and all is as it was."""
        with replacing(self.path) as out:
            out.write(msgspec.json.encode(list(deployed)))

    def read(self) -> list[Stored]:
        """What cannot be read is put aside, so that the next deployment does not overwrite it.
        Raises `StorageError` where that cannot be."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=list[Stored])
        except FileNotFoundError:
            return []
        except (OSError, msgspec.MsgspecError) as error:
            aside = self.path.with_name(self.path.name + ".damaged")
            said = "what was deployed cannot be read and is put aside as %s: %s"
            logger.error(said, aside.name, error)  # noqa: TRY400
            _rename(self.path, aside)
            return []


def _rename(path: Path, aside: Path) -> None:
    try:
        path.replace(aside)
    except OSError as error:
        raise StorageError(
            f"{path.name} can neither be read nor put aside: {error.strerror}"
        ) from error
