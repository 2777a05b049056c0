"""Composer: Hydra's composition of a command's config, which says in our words what cannot be, and judges what comes out."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from laminar.config.allow import packages
from laminar.config.foreign import Loader
from laminar.config.judge import GIVEN, judge
from laminar.config.knobs import resolved
from laminar.config.machine import refuse_other_machine
from laminar.config.near import listed, near
from laminar.config.schema import SCHEMA
from laminar.config.signature import signature
from laminar.config.translate import WORDS, spelt
from laminar.refused import Refused, sentences

SEVERAL = ("callbacks", "experiment", "variant", "debug", "hparams_search")  # groups of which more than one can be chosen
MOST = 24  # members in a sentence
CULPRIT = re.compile(
    r"(?:Could not (?:override|delete|delete from config\.)|already at) '([\w.@/]+)'|Multiple values for ([\w/]+)"
)


class Composer(Loader):
    """Judges what a command runs, and is then ``ready`` for it: before Hydra makes a folder. None only shows a config."""

    def __init__(self, *args: Any, ready: Callable[[], Any] | None, **options: Any):
        super().__init__(*args, **options)
        self.judging, self.ready = ready is not None, ready

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        asks = not validate_sweep_overrides  # Hydra only asks whether pages say that it is a sweep, and overlooks what is wrong
        with sentences() if asks else nullcontext():
            config, parsed = self._composed(config_name, overrides, run_mode, from_shell, validate_sweep_overrides)
            if self.judging and (config.hydra.mode if asks else run_mode) == RunMode.MULTIRUN:
                judge_sweep(config, config_name, parsed)
            elif self.judging and not any(word.is_sweep_override() for word in parsed):
                judge_job(config, config_name, [word.input_line for word in parsed if not word.is_hydra_override()])
        if self.judging and not asks:
            self.ready()
        return config

    def _composed(self, name: str | None, overrides: list[str], *how: Any) -> tuple[DictConfig, Sequence[Override]]:
        parsed: Sequence[Override] = ()
        try:
            parsed, repository = self._parse_overrides_and_create_caching_repo(name, overrides)
            _refuse_members(parsed, repository)
            return super().load_configuration(name, overrides, *how), parsed
        except OverrideParseException as error:
            raise Refused(f"{error.override} is no word of a command: say key=value, or 'key=\"a value\"'") from error
        except ConfigCompositionException as error:
            raise self._in_our_words(error, name, parsed) or error from error

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """One job's, which is judged when it runs, for its refusal is a row of the table."""
        judging, self.judging = self.judging, False
        try:
            return super().load_sweep_config(master_config, sweep_overrides)
        finally:
            self.judging = judging

    def _in_our_words(self, error: Exception, name: str | None, parsed: Sequence[Override]) -> Refused | None:
        """The sentence for a key or group that is not there, by what is there without it."""
        if "Ambiguous value" in str(error):
            word = next(word.input_line for word in parsed if word.is_sweep_override())
            return Refused(f"{word} is more than one value: laminar-{name} -m runs one after another")
        if "Error merging override" in str(error):
            word = str(error).partition("override ")[2].splitlines()[0]
            return Refused(f"{word} is not what stands there: laminar-{name} --help lists the options")
        found = CULPRIT.search(str(error))
        if found is None:
            return None
        key = (found[1] or found[2]).partition("@")[0]
        word = next((word.input_line for word in parsed if word.key_or_group == key), key)
        if "already" in str(error) or "Multiple values" in str(error):
            return Refused(f"{word} is there already: say {word.lstrip('+')}")
        groups = [word for word in parsed if self.repository.group_exists(word.key_or_group) and word.key_or_group != key]
        try:
            config = self._load_configuration_impl(name, [word.input_line for word in groups], RunMode.RUN)
        except ConfigCompositionException:
            return None
        if not self.repository.group_exists(key):
            return Refused(_unknown(key, word, name, config))
        choices = config.hydra.runtime.choices.items()
        made = [group for group, member in choices if member and "/" not in group and group not in ("hydra", "local")]
        return Refused(f"{word} would change nothing: this {'flow' if name == 'train' else 'command'} chooses {listed(made)}")


def judge_job(config: DictConfig, command: str, words: Sequence[str]) -> None:
    """Refuses the config of one run, as it would be run."""
    own = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
    plain = resolved(own, words) if command == "train" else OmegaConf.to_container(own, resolve=True)
    judge(plain, command, packages(words))
    if command == "train":
        refuse_other_machine(plain["trainer"], plain["data"].get("batch_size", 1))


def judge_sweep(config: DictConfig, command: str, parsed: Sequence[Override]) -> None:
    """Refuses what is wrong in each job of a sweep: the words that all share, and each value of those that differ."""
    allow = packages([word.input_line for word in parsed if not word.is_sweep_override()])
    swept = {word.key_or_group: [*_values(word)] for word in parsed if word.is_sweep_override()}
    roots = {key.partition(".")[0] for key in SCHEMA[command]} | {"trainer", "optimizer", "scheduler", "data"}
    for root in roots & config.keys():
        node = "???" if OmegaConf.is_missing(config, root) else config[root]
        if root in swept and OmegaConf.is_config(node):
            continue  # a group, each of whose members has options of its own
        own = {key: values for key, values in swept.items() if key.partition(".")[0] == root}
        first = {key: values[0] for key, values in own.items() if values}
        for key, value in [("", None), *((key, value) for key, values in own.items() for value in values[1:])]:
            job = OmegaConf.create({root: OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node})
            for name, choice in (first | ({key: value} if key else {})).items():
                OmegaConf.update(job, name, choice, force_add=True)
            judge(OmegaConf.to_container(job), command, allow)


def _values(word: Override) -> Iterator[Any]:
    """What a swept word goes through, where that is a list."""
    for value in word.sweep_iterator() if word.is_discrete_sweep() else ():
        yield Override._convert_value(value)


def _refuse_members(parsed: Sequence[Override], repository: Any) -> None:
    """Refuses a member that its group does not have, and two of a group that takes one."""
    for word in parsed:
        group = word.key_or_group
        if word.is_delete() or not repository.group_exists(group):
            continue
        if isinstance(word.value(), list) and not word.is_sweep_override() and group not in SEVERAL:
            raise Refused(f"{word.input_line} chooses several: {group} is one of its members, or with -m one after another")
        for member in _members(word):
            if not repository.config_exists(f"{group}/{member}"):
                options = repository.get_group_options(group)
                groups = repository.get_group_options("", ObjectType.GROUP)
                homes = [home for home in groups if repository.config_exists(f"{home}/{member}")]
                meant = f" (did you mean {homes[0]}={member}?)" if homes else near(member, options, f"{group}=")
                shows = f"laminar-train list {group} shows all {len(options)}"
                what = f"it has {listed(options)}" if len(options) < MOST else shows
                raise Refused(f"{group} has no member {member}{meant}: {what}")


def _members(word: Override) -> Iterator[str]:
    for value in _values(word) if word.is_sweep_override() else [word.value()]:
        for member in value if isinstance(value, list) else [value]:
            if member is not None:
                yield str(member)


def _unknown(key: str, word: str, command: str, config: DictConfig) -> str:
    """The sentence for a key that no page has."""
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    if not OmegaConf.is_dict(node):
        return f"{key} is no option{near(key, _paths(config))}: laminar-{command} --help lists options and groups"
    keys = [child for child in node if child != "hydra" and not str(child).startswith("_")]
    if not parent:
        cures = {other: spelt(cure, other, word.partition("=")[2]) for other, cure in WORDS[command].items() if "=" in cure}
        known = cures | {key: str(key) for key in keys}
        return f"{name} is no option{near(name, known)}: laminar-{command} --help lists options and groups"
    if key in GIVEN:
        return f"{key} is given by the run: {GIVEN[key]}"
    takes = signature(str(node.get("_target_")))
    if takes and name in takes.options:
        return f"{key} is an option that this page leaves out: say +{word}"
    return f"{key} is no option{near(name, keys, f'{parent}.')}: {parent} takes {listed(keys) or 'none'}"


def _paths(config: DictConfig) -> Iterator[str]:
    """Every key, with dots, down to an option of an option."""
    for root, node in config.items_ex(resolve=False):
        if root != "hydra":
            yield str(root)
            if OmegaConf.is_dict(node) and not node._is_none() and not node._is_interpolation():
                yield from (f"{root}.{name}" for name in node if not str(name).startswith("_"))
