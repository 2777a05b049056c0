"""The plan of the house: floors, menus that mirror conf/, and recipes that stay recipes."""

import ast
import inspect
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from hydra.utils import get_object
from torch import nn

from laminar.coupling.law import Law
from laminar.mask.partition import Partition
from laminar.net.net import Net
from laminar.prior.prior import Prior
from laminar.recipe import targets
from laminar.transform import Transform

ROOT = Path(__file__).parents[1]
SOURCE, CONF = ROOT / "src" / "laminar", ROOT / "conf"

FLOORS = [
    {"refused", "space", "numerics", "noise", "recipe"},
    {"transform"},
    {"context", "coupling", "mask", "net", "prior"},
    {"compose", "mix", "norm", "reshape", "preprocessing", "dequantization"},
    {"layer"},
    {"flow"},
    {"objective", "data"},
]
FLOOR = {name: height for height, names in enumerate(FLOORS) for name in names}
TOP = len(FLOORS)

MENUS = ["coupling", "mask", "net", "prior", "mix", "norm", "preprocessing", "dequantization", "context", "data", "objective"]
FILES = sorted(path for path in SOURCE.rglob("*.py") if path.name != "__init__.py")


def room(path: Path) -> str:
    return path.relative_to(SOURCE).with_suffix("").parts[0]


def imports(path: Path) -> set[str]:
    """The rooms that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "laminar":
            parts = node.module.split(".")[1:]
            names |= {parts[0]} if parts else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("laminar.")}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_file_imports_only_from_lower_floors_or_its_own_folder(path):
    here = FLOOR.get(room(path), TOP)
    if here == TOP:
        return
    siblings = {room(path)} | (FLOORS[here] if here == 0 else set())
    assert {name for name in imports(path) if FLOOR.get(name, TOP) >= here} <= siblings


def pages(group: str) -> list[Path]:
    return sorted((CONF / group).glob("*.yaml"))


def read(page: Path) -> dict:
    return yaml.safe_load(page.read_text()) or {}


def final_classes(group: str) -> set[str]:
    """Public classes defined in a menu folder that no other class there refines."""
    found = {}
    for path in sorted((SOURCE / group).glob("*.py")):
        module = import_module(f"laminar.{group}.{path.stem}")
        for name, member in inspect.getmembers(module, inspect.isclass):
            if member.__module__ == module.__name__ and not name.startswith("_"):
                found[f"{member.__module__}.{name}"] = member
    bases = {base for member in found.values() for base in member.__mro__[1:]}
    return {path for path, member in found.items() if member not in bases}


@pytest.mark.parametrize("page", [page for group in MENUS for page in pages(group)], ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_the_root_of_a_page_points_into_its_own_folder(page):
    content, group = read(page), page.parent.name
    if "_target_" in content:
        assert content["_target_"].startswith(f"laminar.{group}.")
    else:
        assert content.get("defaults"), "a page without a root _target_ only varies another page"
    if group == "mask":
        assert content["_target_"] == "laminar.mask.scheme.Scheme"
    for target in targets(content):
        get_object(target)


@pytest.mark.parametrize("group", [group for group in MENUS if group not in ("data", "objective")])
def test_every_final_class_of_a_menu_can_be_ordered(group):
    orders = (Law, Partition, Net, Prior, Transform)  # beside these, a folder holds what they are made of
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


MODEL_GROUPS = [group for group in MENUS if group not in ("data", "objective")] + ["flow", "multiscale"]


@pytest.mark.parametrize("page", [p for g in MODEL_GROUPS for p in pages(g)], ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_model_pages_hold_recipes_not_modules(page):
    assert not list(eager_modules(read(page)))


def test_an_eager_module_would_be_found():
    eager = {"net": {"_target_": "laminar.net.mlp.MLP", "_partial_": True, "activation": {"_target_": "torch.nn.PReLU"}}}
    assert list(eager_modules(eager)) == ["torch.nn.PReLU"]


def test_nothing_else_stands_at_the_top():
    allowed = {"pyproject.toml", "conf", "src", "tests", "scripts", "outputs", "README.md", "LICENSE", "Makefile"}
    allowed |= {"constraints.txt", "data"}
    standing = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert standing <= allowed
