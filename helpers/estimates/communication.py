"""Bytes and seconds between GPUs: collectives in a ring, the bubble of a pipeline, what is left of the speed-up."""

from __future__ import annotations

from helpers.estimates.quantities import positive, whole


def all_reduce_bytes(payload: float, world_size: int) -> float:
    """Bytes that each rank sends (and receives) in a ring all-reduce of `payload` bytes: 2 (n-1)/n of it.

    It is nearly independent of the number of ranks, which is why data parallelism scales.
    Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations", 2009.
    """
    positive("payload", payload, zero=True)
    whole("world_size", world_size)
    return 2 * (world_size - 1) / world_size * payload


def all_reduce_seconds(payload: float, world_size: int, bandwidth: float, latency: float = 0.0) -> float:
    """Seconds of a ring all-reduce of `payload` bytes: its 2 (n-1) rounds each wait once and send a share.

    Args:
        bandwidth: of the slowest link, bytes per second in one direction (500 Mbit/s are 62.5e6).
        latency: seconds until a message arrives, without its bytes.
    """
    positive("bandwidth", bandwidth)
    positive("latency", latency, zero=True)
    return 2 * (world_size - 1) * latency + all_reduce_bytes(payload, world_size) / bandwidth


def all_gather_bytes(payload: float, world_size: int) -> float:
    """Bytes that each rank sends (and receives) in a ring all-gather: (n-1)/n of what each has in the end.

    Args:
        payload: bytes of the whole, gathered tensor, not of one rank's share.

    A reduce-scatter of `payload` bytes sends as much: the two together are the all-reduce. FSDP and ZeRO stage 3
    gather the weights twice a step (forward and backward) and reduce-scatter the gradients: 3 (n-1)/n of the weights
    where data parallelism sends 2 (n-1)/n. Rajbhandari et al. (ZeRO), 2020, section 7.
    """
    positive("payload", payload, zero=True)
    whole("world_size", world_size)
    return (world_size - 1) / world_size * payload


def all_gather_seconds(payload: float, world_size: int, bandwidth: float, latency: float = 0.0) -> float:
    """Seconds of a ring all-gather (or reduce-scatter): n-1 rounds that each wait once and send a share.

    Args:
        payload: bytes of the whole, gathered tensor.
        bandwidth: of the slowest link, bytes per second in one direction.
        latency: seconds until a message arrives, without its bytes.
    """
    positive("bandwidth", bandwidth)
    positive("latency", latency, zero=True)
    return (world_size - 1) * latency + all_gather_bytes(payload, world_size) / bandwidth


def pipeline_bubble(stages: int, microbatches: int, chunks: int = 1) -> float:
    """Share of a pipeline's step in which a GPU waits: (p-1) / (v·m + p-1), between 0 and 1.

    The same for GPipe and for 1F1B, which needs less memory, not less time. Papers also give the bubble as a share
    of the *ideal* time, (p-1) / (v·m): say which one is meant.

    Args:
        stages: p, GPUs in a row.
        microbatches: m, parts of a batch that follow each other.
        chunks: v, pieces of the model that each GPU holds (the interleaved schedule); 1 for the plain one.

    Huang et al. (GPipe), 2019, section 2.3; Narayanan et al., "Efficient large-scale language model training on GPU
    clusters using Megatron-LM", 2021, section 2.2.
    """
    for name, value in {"stages": stages, "microbatches": microbatches, "chunks": chunks}.items():
        whole(name, value)
    return (stages - 1) / (chunks * microbatches + stages - 1)


def data_parallel_efficiency(compute_s: float, communication_s: float, overlap: float = 0.0) -> float:
    """Share of the ideal speed-up that is left when each step also communicates, between 0 and 1.

    Args:
        compute_s: seconds of a step without communication.
        communication_s: seconds of its communication alone.
        overlap: share of the communication that hides behind the backward pass; no more than `compute_s` can hide.
    """
    positive("compute_s", compute_s)
    positive("communication_s", communication_s, zero=True)
    positive("overlap", overlap, zero=True)
    if overlap > 1:
        raise ValueError(f"overlap must be a share between 0 and 1, got {overlap}")
    exposed = communication_s - min(overlap * communication_s, compute_s)
    return compute_s / (compute_s + exposed)
