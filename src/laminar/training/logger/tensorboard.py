"""TensorBoard event files under ``<run>/tensorboard``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import TensorBoardLogger

from laminar.refused import Refused
from laminar.training.logger.logger import RunLogger

SCORES = ("val/bpd", "val/nll", "test/bpd", "test/nll")  # columns of the HParams page, as far as a run has them


class TensorBoard(RunLogger, TensorBoardLogger):
    """Look at it with ``tensorboard --logdir outputs``.

    The columns of its HParams page are the run's choices, group by group, and the options that its command line set.
    """

    def __init__(self, run_dir: str | Path):
        try:
            super().__init__(run_dir, name="", version="tensorboard", default_hp_metric=False)
        except ModuleNotFoundError:
            raise Refused("logger=tensorboard needs a package that is not installed: pip install tensorboard") from None

    def log_hyperparams(self, params: Mapping[str, Any], *args: Any, **kwargs: Any) -> None:
        from torch.utils.tensorboard.summary import hparams

        columns = {**params.get("choices", {}), **params.get("options", {}), "seed": params["seed"]}
        for summary in hparams(columns, dict.fromkeys(SCORES, 0)):
            self.experiment._get_file_writer().add_summary(summary)

    def log_picture(self, name: str, path: Path, step: int) -> None:
        import numpy as np
        from PIL import Image

        self.experiment.add_image(name, np.asarray(Image.open(path).convert("RGB")), step, dataformats="HWC")

    def summarise(self, numbers, table=()) -> None:
        for name, value in numbers.items():
            self.experiment.add_text(f"final/{name}", str(value))

    def close(self, exit_code: int) -> None:
        self.experiment.close()
