"""TensorBoard event files under ``<run>/tensorboard``."""

from pathlib import Path

from pytorch_lightning.loggers import TensorBoardLogger

from laminar.refused import Refused
from laminar.training.logger.logger import RunLogger


class TensorBoard(RunLogger, TensorBoardLogger):
    """Look at it with ``tensorboard --logdir outputs``."""

    def __init__(self, run_dir: str | Path):
        try:
            super().__init__(run_dir, name="", version="tensorboard")
        except ModuleNotFoundError:
            raise Refused("logger=tensorboard needs a package that is not installed: pip install tensorboard") from None

    def log_picture(self, name: str, path: Path, step: int) -> None:
        import numpy as np
        from PIL import Image

        self.experiment.add_image(name, np.asarray(Image.open(path).convert("RGB")), step, dataformats="HWC")

    def summarise(self, numbers) -> None:
        for name, value in numbers.items():
            self.experiment.add_text(f"final/{name}", str(value))

    def close(self, exit_code: int) -> None:
        self.experiment.close()
