"""What the engine of a version is told to load, and what memory that takes."""

from aruntime.control.host import Settings
from aruntime.control.repository import ModelVersion
from aruntime.control.settings import VersionRefused
from aruntime.model.fields import CheckpointRefused
from aruntime.model.footprint import Device, Footprint, measure
from aruntime.wire.control import Batching, Load


def launch_order(version: ModelVersion, settings: Settings) -> Load:
    """The order for replica 0, with the cache that it would like. VersionRefused: it is for another device."""
    limits, built, batching = version.model.limits, version.settings, version.model.batching
    by_rows = built.engine == "onnx"  # a row is its token, and a batch is a step
    if settings.device not in ("auto", built.target) and built.target != "any":
        raise VersionRefused(f"it was built for {built.target}; this server runs on {settings.device}")
    return Load(
        replica=0,
        model=version.name,
        version=version.version,
        folder=str(version.folder),
        engine=built.engine,
        batching=Batching(batch_max=batching.batch_max, preferred=batching.preferred, delay_s=batching.delay_s),
        device=settings.device if built.target == "any" else built.target,
        dtype=built.precision,
        cache_dtype=built.cache_precision,
        cache_bytes=limits.cache_bytes or settings.cache_bytes,
        block_tokens=limits.block_tokens,
        sequences_max=batching.batch_max if by_rows else limits.sequences_max,
        step_tokens_max=batching.batch_max if by_rows else limits.step_tokens_max,
        bounds=version.model.bounds,
        threads=settings.threads,
    )


def footprint_of(version: ModelVersion, order: Load, device: Device) -> Footprint:
    """What all replicas of a version take of the device. VersionRefused: its files do not say."""
    try:
        one = measure(
            version.folder,
            device,
            engine=order.engine,
            dtype=order.dtype,
            cache_dtype=order.cache_dtype,
            block_tokens=order.block_tokens,
            sequences_max=order.sequences_max,
            step_tokens_max=order.step_tokens_max,
            cache_bytes=order.cache_bytes,
            cache_bytes_min=version.model.residency.cache_bytes_min,
        )
    except CheckpointRefused as error:
        raise VersionRefused(str(error)) from None
    return one.times(version.model.limits.replicas)
