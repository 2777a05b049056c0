"""One thread a process: small tensors on many threads are slower than on one, and tests share the machine."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
