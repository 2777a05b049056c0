"""The wheel carries its config, and trains outside of the checkout."""

import json
import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]

LAW = '''"""Shift law: y = x + 2 t."""

from laminar.flows.coupling.law import Law


class Shift(Law):
    arity = 1

    def __call__(self, x, params):
        return x + 2 * params[:, 0], x * 0

    def inverse(self, y, params):
        return y - 2 * params[:, 0]
'''

TINY = [
    "flow=realnvp_flat",
    "data=moons",
    "logger=null",
    "callbacks=checkpoints",
    "size.width=8",
    "size.depth=1",
    "size.steps=2",
    "trainer.max_steps=-1",
    "trainer.max_epochs=1",
    "trainer.check_val_every_n_epoch=1",
    "trainer.val_check_interval=null",
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def elsewhere(wheel, tmp_path_factory):
    """Runs a module of the installed wheel in an empty folder, outside of the checkout."""
    site = tmp_path_factory.mktemp("site")
    with ZipFile(wheel) as archive:
        archive.extractall(site)

    def run(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
        path = os.pathsep.join([str(site), environment.pop("PYTHONPATH", "")])
        settings = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **environment}
        return subprocess.run([sys.executable, *words], cwd=cwd, env=settings, capture_output=True, text=True, timeout=300)

    where = run("-c", "import laminar; print(laminar.__file__)", cwd=site)
    assert Path(where.stdout.strip()).is_relative_to(site)
    return run


def test_the_wheel_holds_every_page_and_no_tests(wheel):
    names = ZipFile(wheel).namelist()
    pages = {str(path.relative_to(ROOT / "conf")) for path in (ROOT / "conf").rglob("*.yaml")}
    assert {name.removeprefix("laminar/conf/") for name in names if name.endswith(".yaml")} == pages
    assert not [name for name in names if name.startswith(("tests", "src"))]


@pytest.mark.slow
def test_the_wheel_trains_one_epoch(elsewhere, tmp_path):
    done = elsewhere("-m", "laminar.commands.train", *TINY, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (metrics,) = tmp_path.glob("outputs/train/default/*/metrics.json")
    assert json.loads(metrics.read_text())["grade"] == "exact"


@pytest.mark.slow
def test_the_wheel_tries_a_published_flow_in_an_empty_folder(elsewhere, tmp_path):
    done = elsewhere("-m", "laminar.commands.train", "debug=fdr", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.glob("outputs/train/default/*/")
    assert json.loads((folder / "metrics.json").read_text())["steps"] == 1
    assert json.loads((folder / "environment.json").read_text())["commit"] is None  # not a checkout


def test_a_law_from_another_package_by_one_page_of_config(elsewhere, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").touch()
    (tmp_path / "mine" / "shift.py").write_text(LAW)
    (tmp_path / "pages" / "coupling").mkdir(parents=True)
    (tmp_path / "pages" / "coupling" / "shift.yaml").write_text("_target_: mine.shift.Shift\n_partial_: true\n")
    command = ["-m", "laminar.commands.train", "--config-dir", "pages", "coupling=shift", *TINY]

    refused = elsewhere(*command, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert refused.returncode == 2 and "allow=[its_package]" in refused.stderr and "Traceback" not in refused.stderr

    done = elsewhere(*command, "allow=[mine]", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("outputs/train/default/*/metrics.json"))) == 1


def test_the_public_face_is_lazy(tmp_path):
    code = (
        "import sys, laminar\n"
        "assert 'torch' not in sys.modules and 'Flow' in dir(laminar)\n"
        "from laminar import *\n"
        "assert Flow.__module__ == 'laminar.flows.flow' and laminar.Space is Space\n"
        "try:\n    laminar.Flaw\nexcept AttributeError as no:\n    assert 'Flaw' in str(no)\n"
        "else:\n    raise SystemExit(1)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_lightning_is_imported_without_what_no_run_uses(tmp_path):
    code = (
        "import sys\n"
        "from laminar.commands.lean import import_lightning\n"
        "import_lightning()\n"
        "assert 'pytorch_lightning' in sys.modules and not {'torchvision', 'scipy.signal', 'matplotlib'} & set(sys.modules)\n"
        "from lightning_utilities.core.imports import RequirementCache, package_available\n"
        "assert package_available('torchvision') and RequirementCache('scipy')\n"
        "from torchvision.datasets import MNIST\n"
        "import_lightning()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
