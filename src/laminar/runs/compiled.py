"""Compiled: a flow by torch.compile, where a machine can."""

import torch
from pytorch_lightning.utilities import rank_zero_only

from laminar.flows.compose.inverse import Inverse
from laminar.flows.flow import Flow
from laminar.flows.net.causal import Causal
from laminar.refused import Refused


def compile_flow(flow: Flow, device: torch.device, back: bool = False) -> None:
    """Has the way to noise compile itself as it meets batches, and the way back if asked. Refused where nothing compiles."""
    if back and stepwise(flow):
        raise Refused(
            "compile=true would write out each step of an autoregressive flow's way back, which takes longer than it saves: "
            "take compile=false"
        )
    try:
        torch.compile(torch.sin)(torch.ones(2, device=device))
    except Exception as error:
        needed, (said, *_) = "a C++ compiler" if device.type == "cpu" else "triton", str(error).splitlines() or [""]
        raise Refused(
            f"compile=true needs a compiler, and torch has none that works ({said}): install {needed}, or take compile=false"
        ) from error
    flow.transform.compile()
    if back:
        flow.transform.inverse = torch.compile(flow.transform.inverse)
    if rank_zero_only.rank == 0:
        print("compile=true: batches of a new size compile first, half a minute or some minutes each", flush=True)


def stepwise(flow: Flow) -> bool:
    """Whether the way back is found step by step."""
    turned = {part for turn in flow.modules() if isinstance(turn, Inverse) for part in turn.modules()}
    return any(isinstance(part, Causal) for part in {*flow.modules()} - turned)
