"""Distributed data-parallel training with real worker processes: on a laptop, in a notebook, on many nodes.

Starting: `launch` runs a function in several processes and returns what each gave. Training: `train`, `evaluate`,
`TrainConfig`, `History`; `save_checkpoint`, `load_checkpoint`. Written out: `ring_all_reduce`, `BucketedAverager`,
`Zero1`. Larger models: `shard`, `save_sharded`, `load_sharded`. Slow links: `compression`. Under `torchrun`, on one
node or several: `python -m helpers.ddp`. The modules are imported when one of their names is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.lazy import names_of

if TYPE_CHECKING:
    from helpers.ddp import compression
    from helpers.ddp.checkpoints import load_checkpoint, save_checkpoint
    from helpers.ddp.collectives import BucketedAverager, Zero1, ring_all_reduce
    from helpers.ddp.launcher import WorkerError, launch
    from helpers.ddp.sharded import load_sharded, save_sharded, shard
    from helpers.ddp.trainer import History, TrainConfig, evaluate, train
    from helpers.ddp.worker import progress

__getattr__, __dir__ = names_of(
    __name__,
    {
        "checkpoints": ("load_checkpoint", "save_checkpoint"),
        "collectives": ("BucketedAverager", "Zero1", "ring_all_reduce"),
        "compression": (),
        "launcher": ("WorkerError", "launch"),
        "sharded": ("load_sharded", "save_sharded", "shard"),
        "trainer": ("History", "TrainConfig", "evaluate", "train"),
        "worker": ("progress",),
    },
)

__all__ = [
    "BucketedAverager",
    "History",
    "TrainConfig",
    "WorkerError",
    "Zero1",
    "compression",
    "evaluate",
    "launch",
    "load_checkpoint",
    "load_sharded",
    "progress",
    "ring_all_reduce",
    "save_checkpoint",
    "save_sharded",
    "shard",
    "train",
]
