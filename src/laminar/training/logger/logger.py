"""RunLogger: a Lightning logger of one run folder, with an end."""

from collections.abc import Mapping, Sequence
from pathlib import Path

REFUSED = 2  # the exit code of a command that says no


class RunLogger:
    """What a run tells its loggers besides Lightning's ``log_hyperparams`` and ``log_metrics``."""

    def log_picture(self, name: str, path: Path, step: int) -> None:
        """A picture that lies in the run folder."""

    def begin(self, step: int) -> None:
        """A training begins, or goes on, after this many optimizer steps."""

    def settle(self) -> None:
        """Brings to the disk what was logged."""

    def summarise(self, numbers: Mapping[str, float | int | str], table: Sequence[Sequence[str]] = ()) -> None:
        """The run's final numbers, and the table that tells them: what each is, its value, what is behind it."""

    def close(self, exit_code: int) -> None:
        """The run is over; 0 is success."""
