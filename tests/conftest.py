"""One thread a process: small tensors on many threads are slower than on one, and tests share the machine."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the long storms, too")


def pytest_collection_modifyitems(config, items):
    """Leaves the long storms out; they are not reported one by one as skipped."""
    if not config.getoption("--slow"):
        slow = [item for item in items if "slow" in item.keywords]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if "slow" not in item.keywords]
