"""Changes: what may be otherwise when a run goes on, and why the rest may not.

Its numbers are those of one run: whatever decides them stays. How long it goes on, where it is computed, where its data lie
and who watches may change.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from laminar.config.heads import members
from laminar.config.near import listed, near
from laminar.config.pages import compose
from laminar.refused import Refused

BUDGET = ("trainer.max_steps", "trainer.max_epochs", "trainer.max_time", "test", "num_samples")
TOLD = ("tags", "published", "optimized_metric")  # of a run, by itself and by others
COMPUTED = ("memory", "compile")
WHERE = ("data.root", "data.path")
MACHINE = ("accelerator", "devices", "num_nodes", "strategy", "use_distributed_sampler")  # of the trainer
TAKING_PART = ("ema", "early_stopping")  # callbacks that are more than watchers, as all are that no page of ours describes
GROUPS = ("trainer", "logger", "callbacks")
PRECISIONS = {"16": "16-mixed", "bf16": "bf16-mixed", "32": "32-true", "64": "64-true"}  # Lightning's short names
MAY = "the budget, trainer (where it runs), logger, tags, data.root and callbacks that only watch may change"

REASONS = {
    "optimizer": "the optimizer goes on from its state",
    "scheduler": "the learning rate follows one schedule from its first step to its last",
    "objective": "what is maximised would be something else",
    "data": "steps are counted by batches of the same rows in the same order",
    "seed": "its noise, its order and its validation rows are functions of the seed",
    "trainer.precision": "its networks would be rounded otherwise from there on",
    "trainer.accumulate_grad_batches": "its place in the data is counted in micro-batches",
    "trainer": "it decides which steps are taken, or which weights are kept as the best",
    "callbacks": "it takes part in the training",
    "name": "its folder has that name already",
    "ckpt_path": "it goes on from its own last.ckpt",
    "train": "going on is training",
}


def is_budget(word: str) -> bool:
    return word.partition("=")[0] in BUDGET


def changed(plain: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """A run's config with what the words of ``resume=`` change. A word that says what is so already changes nothing.

    Raises:
        Refused: where one cannot change, or is not there.
    """
    config = OmegaConf.create(dict(plain))
    chosen = {group: word for word in words for group, sign, _ in [word.partition("=")] if sign and group in GROUPS}
    for group, word in chosen.items():
        _choose(config, group, word.partition("=")[2].strip())
    for word in words:
        if word.partition("=")[0] not in GROUPS:
            _set(config, word)
    if config.get("logger") and "tags" in config.logger and any(word.startswith("tags=") for word in words):
        config.logger.tags = config.tags
    return OmegaConf.to_container(config, resolve=True)


def _choose(config: Any, group: str, choice: str) -> None:
    """Another member of a group: of a trainer its machine, of callbacks those that watch."""
    names = ["null" if name.strip() == "none" else name.strip() for name in choice.strip("[]").split(",")]
    pages = members(group)
    for name in names:
        if name not in pages and names != ["null"]:
            raise Refused(f"{group} has no member {name}{near(name, [*pages], f'{group}=')}: it has {listed(pages)}")
    if group == "trainer" and names == ["null"]:
        raise Refused("trainer=null leaves a run without what it needs: leave it out")
    page = {} if names == ["null"] else OmegaConf.to_container(compose("train", [f"{group}={choice}"])[group])
    ours = OmegaConf.to_container(config[group] or OmegaConf.create({}))
    if group == "trainer":
        page = {name: value for name, value in ours.items() if name not in MACHINE} | {
            name: value for name, value in page.items() if name in MACHINE
        }
    elif group == "callbacks":
        page = {name: node for name, node in page.items() if node is not None}
        for name in page:
            if _takes_part(name) and name not in ours:
                raise _fixed(f"callbacks={choice}", f"{name} takes part in the training")
        kept = {name: node for name, node in ours.items() if _takes_part(name)}
        page = kept | {name: node for name, node in page.items() if not _takes_part(name)}
    config[group] = page or None
    if config.get("choices") is not None:
        config.choices[group] = choice


def _set(config: Any, word: str) -> None:
    """An option by its key."""
    key, sign, text = word.partition("=")
    if key.startswith("~callbacks.") and key.removeprefix("~callbacks.") in (config.callbacks or ()):
        name = key.removeprefix("~callbacks.")
        if _takes_part(name):
            raise _fixed(word, REASONS["callbacks"])
        del config.callbacks[name]
        return
    root, _, rest = key.partition(".")
    if not sign or (text == "" and root not in TOLD) or key[0] in "+~":
        raise Refused(f"{word} is no change that a run can go on with: say key=value; {MAY}")
    if (config.get("choices") or {}).get(key) == text:
        return
    value = OmegaConf.from_dotlist([word])
    told, missing = OmegaConf.select(value, key), object()
    here = OmegaConf.select(config, key, default=missing)
    if key == "trainer.precision":
        told, here = (PRECISIONS.get(str(name), str(name)) for name in (told, here))
    if told == here:
        return
    if root == "logger" and not config.logger:
        raise Refused(f"{word} is for a logger, and this run has none: say logger=wandb with it")
    if root == "callbacks" and rest.partition(".")[0] not in (config.callbacks or {}):
        has = listed(config.callbacks or ()) or "none"
        raise Refused(f"{word} is for a callback that this run does not have: it has {has}")
    if key in WHERE and here is missing:
        raise Refused(f"{word} is no option of this run's data ({config.data._target_}): leave it out")
    if not _may(key):
        raise _fixed(word, REASONS.get(key) or REASONS.get(root) or "it decides the run's numbers")
    OmegaConf.update(config, key, told, force_add=True)


def _may(key: str) -> bool:
    root, _, rest = key.partition(".")
    option = rest.partition(".")[0]
    if key in (*BUDGET, *TOLD, *COMPUTED, *WHERE):
        return True
    if root == "trainer":
        return option in (*MACHINE, "log_every_n_steps")
    return bool(option) and (root == "logger" or (root == "callbacks" and not _takes_part(option)))


def _takes_part(name: str) -> bool:
    return name in TAKING_PART or name not in members("callbacks")


def _fixed(word: str, reason: str) -> Refused:
    return Refused(f"{word} cannot change in the middle of a run, for {reason}: leave it out, or start a new run; {MAY}")
