"""Profiler: where the time of a run goes."""

from pytorch_lightning.profilers import SimpleProfiler


class Profiler(SimpleProfiler):
    """A table of the time behind each hook of the training loop, in ``<run>/fit-profile.txt``.

    Lightning's own, which writes wherever its options say, is no page's: this one knows the run folder from its trainer.
    """

    _stage = _output_file = None  # which Lightning's own end reads, of one that was never made, too

    def __init__(self):
        super().__init__(filename="profile")
