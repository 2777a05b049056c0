"""The plan of the house: floors, menus that mirror conf/, and recipes that stay recipes."""

import ast
import inspect
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from hydra.utils import get_object
from pytorch_lightning.callbacks import Callback
from torch import nn

from laminar.config.recipe import targets
from laminar.data.source import Source
from laminar.flows.coupling.law import Law
from laminar.flows.layer.coupling import Coupling
from laminar.flows.mask.partition import Partition
from laminar.flows.mask.scheme import Scheme
from laminar.flows.net.net import Net
from laminar.flows.prior.prior import Prior
from laminar.flows.solver.solver import Solver
from laminar.flows.trace.trace import Trace
from laminar.flows.transform import Transform
from laminar.training.logger.logger import RunLogger
from laminar.training.objective.objective import Objective
from laminar.training.path.path import Path as Between
from laminar.training.target.target import Target

ROOT = Path(__file__).parents[1]
SOURCE, CONF = ROOT / "src" / "laminar", ROOT / "conf"

WINGS = [{"refused"}, {"flows", "config"}, {"data", "pictures"}, {"training"}, {"runs"}, {"commands"}]
LIBRARY = [  # the floors within flows
    {"space", "units", "numerics", "noise", "recipe", "guidance", "ledger", "initialise", "fixed_point", "solver", "trace"},
    {"transform", "order", "rows", "recompute"},
    {"context", "coupling", "mask", "net", "observation", "prior"},
    {"compose", "mix", "norm", "reshape", "preprocessing", "dequantization"},
    {"layer"},
    {"flow"},
    {"draw", "bridge", "naive", "memory"},
]
FLOOR = {room: (height, 0) for height, rooms in enumerate(WINGS) for room in rooms}
FLOOR |= {f"flows.{room}": (1, height) for height, rooms in enumerate(LIBRARY) for room in rooms}

# A group of pages -> the folder that it orders from.
MENUS = {
    **{group: f"flows/{group}" for group in ("coupling", "mask", "order", "net", "prior", "mix", "norm", "context")},
    **{group: f"flows/{group}" for group in ("preprocessing", "dequantization", "observation", "solver", "trace")},
    "layer": "flows/layer",
    "multiscale": "flows/compose",
    "posterior": "flows/flow",
    "data": "data",
    **{group: f"training/{group}" for group in ("objective", "target", "path", "callbacks", "logger")},
}
FILES = {
    ".".join(("laminar", *path.relative_to(SOURCE).with_suffix("").parts)): path
    for path in sorted(SOURCE.rglob("*.py"))
    if path.name != "__init__.py"
}


def room(module: str) -> str:
    """The wing that a module belongs to, within the library its room there."""
    _, wing, *rest = module.split(".")
    return f"flows.{rest[0]}" if wing == "flows" and rest else wing


def arrows(path: Path) -> set[str]:
    """The modules of the house that a file imports, or names in a string (a worker to start, a class to compare with)."""
    tree, names = ast.parse(path.read_text()), set()
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "laminar":
            children = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= children & FILES.keys() or {node.module}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names if alias.name.startswith("laminar.")}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            for word in re.findall(r"laminar(?:\.\w+)+", node.value):
                names |= {name for name in (word, word.rpartition(".")[0]) if name in FILES}
    return names - {"laminar"}


@pytest.mark.parametrize("module", FILES)
def test_a_file_stands_only_on_lower_floors_or_its_own_folder(module):
    here = room(module)
    for name in arrows(FILES[module]):
        there = room(name)
        assert there in FLOOR, f"{there} has no floor"
        ground = FLOOR[here] == FLOOR[there] == (1, 0) and here.startswith("flows.")  # neighbours on the ground
        assert there == here or FLOOR[there] < FLOOR[here] or ground, f"{module} -> {name}"


def test_wings_on_one_floor_do_not_lean_on_each_other():
    wings = {(room(m).split(".")[0], room(name).split(".")[0]) for m, path in FILES.items() for name in arrows(path)}
    for rooms in WINGS:
        assert not {(a, b) for a in rooms for b in rooms - {a}} & wings


def test_no_files_import_each_other_in_a_circle():
    TopologicalSorter({module: arrows(path) for module, path in FILES.items()}).prepare()


def test_arrows_see_imports_and_strings(tmp_path):
    file = tmp_path / "file.py"
    file.write_text(
        '"""Docstrings may speak of laminar.runs.run."""\n'
        "from laminar.flows import noise\nfrom laminar.flows.flow import Flow\n"
        'WORKER, LOGGER = "laminar.runs.worker", "laminar.training.logger.csv.CSV"\n'
    )
    named = {"laminar.flows.noise", "laminar.flows.flow", "laminar.runs.worker", "laminar.training.logger.csv"}
    assert arrows(file) == named


def test_the_package_opens_on_seven_wings_and_two_files():
    shown = {path.name for path in SOURCE.iterdir() if path.name != "__pycache__"}
    wings = {"flows", "config", "data", "pictures", "training", "runs", "commands"}
    assert shown == wings | {"__init__.py", "refused.py"}


def test_the_library_needs_nothing_of_the_framework():
    modules = [module for module in FILES if module.startswith("laminar.flows.")]
    code = (
        "import sys\nfrom importlib import import_module\n"
        "for name in ('pytorch_lightning', 'lightning', 'torchmetrics', 'hydra', 'omegaconf', 'wandb'):\n"
        "    sys.modules[name] = None\n"
        f"for module in {modules}:\n    import_module(module)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def pages(group: str) -> list[Path]:
    return sorted((CONF / group).glob("*.yaml"))


def read(page: Path) -> dict:
    return yaml.safe_load(page.read_text()) or {}


def final_classes(group: str) -> set[str]:
    """Public classes defined in a menu folder that no other class there refines."""
    found = {}
    for path in sorted((SOURCE / MENUS[group]).glob("*.py")):
        module = import_module(".".join(("laminar", *MENUS[group].split("/"), path.stem)))
        for name, member in inspect.getmembers(module, inspect.isclass):
            if member.__module__ == module.__name__ and not name.startswith("_"):
                found[f"{member.__module__}.{name}"] = member
    bases = {base for member in found.values() for base in member.__mro__[1:]}
    return {path for path, member in found.items() if member not in bases}


@pytest.mark.parametrize("page", [page for group in MENUS for page in pages(group)], ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_the_root_of_a_page_points_into_its_own_folder(page):
    content, group = read(page), page.parent.name
    if "_target_" in content:
        assert content["_target_"].startswith(f"laminar.{MENUS[group].replace('/', '.')}.")
    else:
        assert content.get("defaults"), "a page without a root _target_ only varies another page"
    if group == "mask":
        assert content["_target_"] == "laminar.flows.mask.scheme.Scheme"
    for target in targets(content):
        get_object(target)


@pytest.mark.parametrize("group", MENUS)
def test_every_final_class_of_a_menu_can_be_ordered(group):
    # Beside these, a folder holds what they are made of.
    orders = (Law, Partition, Scheme, Net, Prior, Trace, Solver, Transform, Coupling, Source, Objective, Target)
    orders += (Between, Callback, RunLogger)
    ordered = {target for page in CONF.rglob("*.yaml") for target in targets(read(page))}
    assert {name for name in final_classes(group) if issubclass(get_object(name), orders)} <= ordered


def eager_modules(node):
    """Targets of modules that a config would build before their Space is known."""
    if isinstance(node, dict):
        target = node.get("_target_")
        if target and not node.get("_partial_"):
            found = get_object(target)
            if inspect.isclass(found) and issubclass(found, nn.Module):
                yield target
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from eager_modules(child)


MODEL_GROUPS = [group for group, folder in MENUS.items() if folder.startswith("flows/")] + ["flow"]


@pytest.mark.parametrize("page", [p for g in MODEL_GROUPS for p in pages(g)], ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_model_pages_hold_recipes_not_modules(page):
    assert not list(eager_modules(read(page)))


def test_an_eager_module_would_be_found():
    eager = {"net": {"_target_": "laminar.flows.net.mlp.MLP", "_partial_": True, "activation": {"_target_": "torch.nn.PReLU"}}}
    assert list(eager_modules(eager)) == ["torch.nn.PReLU"]


def test_nothing_else_stands_at_the_top():
    """Of what git tracks: a log or a notebook of the user's own may lie there."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout: git does not say what belongs to it")
    allowed = {"pyproject.toml", "conf", "src", "tests", "scripts", "outputs", "README.md", "LICENSE", "Makefile"}
    allowed |= {"constraints.txt", "docs"}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    standing = {path.split("/")[0] for path in tracked}
    assert {name for name in standing if not name.startswith(".")} <= allowed
