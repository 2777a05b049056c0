"""Machine: whether there is what a trainer asks for, and how its processes share a batch."""

from collections.abc import Mapping
from typing import Any

from laminar.refused import Refused

GPU = ("gpu", "cuda")


def micro_batch(batch_size: int, ranks: int, accumulate: int) -> int:
    """Examples of one forward pass on one rank."""
    if batch_size % (ranks * accumulate):
        raise Refused(
            f"data.batch_size={batch_size}, the number of examples behind one optimizer step, does not divide by "
            f"{ranks} ranks x {accumulate} accumulated batches: take a multiple of {ranks * accumulate}"
        )
    return batch_size // (ranks * accumulate)


def refuse_other_machine(trainer: Mapping[str, Any], batch_size: int) -> None:
    """Refuses a trainer page for GPUs that are not there, and a batch that its processes cannot share."""
    devices = trainer.get("devices")
    if trainer.get("accelerator") in GPU:
        devices = _gpus(devices)
    if type(devices) is int and devices > 0:
        micro_batch(batch_size, devices * (trainer.get("num_nodes") or 1), trainer.get("accumulate_grad_batches") or 1)


def _gpus(devices: Any) -> Any:
    """How many are asked for: only then is torch imported, which alone knows what it can use."""
    import torch

    found = torch.cuda.device_count() or int(torch.backends.mps.is_available())
    if not found:
        raise Refused("trainer=gpu needs a GPU, and torch finds none on this machine: choose trainer=cpu")
    if type(devices) is int and devices > found:
        raise Refused(f"trainer.devices={devices} is more than the {found} GPUs of this machine: take {found} or fewer")
    return found if devices in ("auto", -1) else devices
