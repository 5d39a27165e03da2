"""The platform: everything a surface may use, in one record."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiaas_async.config import Settings
from aiaas_async.jobs.board import JobBoard
from aiaas_async.registry.writer import RegistryWriter
from aiaas_async.service.batch import BatchInference
from aiaas_async.service.calls import Calls
from aiaas_async.service.cluster import Cluster
from aiaas_async.service.datasets import Datasets
from aiaas_async.service.deployments import Deployments
from aiaas_async.service.host import CpuMeter
from aiaas_async.service.loopwatch import LoopWatch
from aiaas_async.service.membership import Membership
from aiaas_async.service.models import Models
from aiaas_async.service.readers import Readers
from aiaas_async.service.training import Training

if TYPE_CHECKING:
    from aiaas_async.service.tracing import Tracing


@dataclass(frozen=True, slots=True)
class Platform:
    """`stopping` is set when the server begins to shut down; `tracing` is None when nobody asked
    for traces."""

    settings: Settings
    registry: RegistryWriter
    cluster: Cluster
    membership: Membership
    models: Models
    calls: Calls
    datasets: Datasets
    deployments: Deployments
    training: Training
    batch: BatchInference
    jobs: JobBoard
    readers: Readers
    loop: LoopWatch
    tracing: Tracing | None
    cpu: CpuMeter = field(default_factory=CpuMeter)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    started_at: float = field(default_factory=time.time)
