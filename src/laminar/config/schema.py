"""What each command's own keys hold. Those of a part (``data``, ``coupling``, ``trainer`` ...) its constructor says."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

Named = str | int  # a run called 7 is one
MEMORY = Literal["store", "checkpoint", "reversible"]
SPLIT = Literal["train", "val", "test"]
MODE = Literal["sample", "reconstruct", "interpolate"]
WHERE = {"data.root": Named | None, "data.path": Named | None, "device": str, "allow": Sequence[str] | str}

SCHEMA: Mapping[str, Mapping[str, Any]] = {
    "train": {
        "task_name": Named,
        "name": Named,
        "tags": Sequence[str],
        "seed": int,
        "train": bool,
        "test": bool,
        "ckpt_path": str | None,
        "resume": str | None,
        "num_samples": int,
        "compile": bool,
        "memory": MEMORY,
        "published": float | None,
        "optimized_metric": str | None,
        "allow": Sequence[str] | str,
        **{f"size.{name}": int for name in ("width", "depth", "steps", "levels", "latent", "patch", "deep")},
    },
    "evaluate": {
        "run": Named,
        "split": SPLIT,
        "num_samples": int | None,
        "repeats": int | None,
        "num_probes": int | None,
        "trace.num_probes": int | None,
        "solver.rtol": float | None,
        "solver.atol": float | None,
        "solver.max_steps": int | None,
        "solver.steps": int | None,
        "finer_rows": int,
        "accuracy_samples": int,
        "against": Named | None,
        "batch_size": int | None,
        "compile": bool,
        **WHERE,
    },
    "sample": {
        "run": Named,
        "mode": MODE,
        "n": int,
        "temperature": float,
        "guidance": float,
        "denoise": bool,
        "inverse": Literal["sequential", "jacobi"] | None,
        "tolerance": float,
        "label": int | None,
        "given": Named | None,
        "seed": int,
        "steps": int,
        "split": SPLIT,
        "out": Named | None,
        "overwrite": bool,
        "compile": bool,
        **WHERE,
    },
}
