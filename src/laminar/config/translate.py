"""Words of other programs (the lightning-hydra-template's, other flow libraries'), and how they are said here."""

from collections.abc import Mapping, Sequence

from laminar.refused import Refused

SERVED = "leave it out, for data are served from memory, without workers"
PLACES = ("data_dir", "paths.data_dir", "data.data_dir", "data.dir", "root")

TRAIN: Mapping[str, str] = {
    **dict.fromkeys(("model", "net_type", "recipe"), "flow={}"),
    **dict.fromkeys(("datamodule", "dataset", "dataloader"), "data={}"),
    **dict.fromkeys(
        ("lr", "learning_rate", "model.lr", "flow.lr", "model.optimizer.lr", "flow.optimizer.lr"), "optimizer.lr={}"
    ),
    **dict.fromkeys(("weight_decay", "wd"), "optimizer.weight_decay={}"),
    **dict.fromkeys(("batch_size", "bs", "datamodule.batch_size", "data.train_batch_size"), "data.batch_size={}"),
    **dict.fromkeys(("epochs", "max_epochs", "num_epochs", "n_epochs", "trainer.epochs"), "trainer.max_epochs={}"),
    **dict.fromkeys(("max_steps", "steps", "iterations", "trainer.steps"), "trainer.max_steps={}"),
    **dict.fromkeys(("gpus", "trainer.gpus", "num_gpus"), "trainer=gpu trainer.devices={}"),
    **dict.fromkeys(("device", "accelerator"), "trainer=cpu or trainer=gpu"),
    **dict.fromkeys(("devices", "precision", "max_time", "gradient_clip_val", "val_check_interval"), "trainer.{name}={}"),
    **dict.fromkeys(("num_workers", "data.num_workers", "pin_memory", "data.pin_memory"), SERVED),
    **dict.fromkeys(PLACES, "data.root={}"),
    **dict.fromkeys(("output_dir", "out_dir", "paths.output_dir"), "hydra.run.dir={}"),
    **dict.fromkeys(("run_name", "experiment_name", "exp_name"), "name={}"),
    **dict.fromkeys(("project", "entity", "group", "wandb.project", "wandb.entity"), "logger.{name}={}"),
    **dict.fromkeys(
        ("checkpoint", "ckpt", "checkpoint_path", "trainer.resume_from_checkpoint"), "ckpt_path={}, or resume=<run folder>"
    ),
    **dict.fromkeys(("loss", "criterion"), "objective={}"),
    **dict.fromkeys(("base", "base_dist", "base_distribution", "latent"), "prior={}"),
    **dict.fromkeys(("hidden_dim", "hidden_features", "hidden_size", "width"), "size.width={}"),
    **dict.fromkeys(("num_layers", "n_layers", "num_blocks", "depth"), "size.depth={}"),
    **dict.fromkeys(("num_flows", "n_flows", "num_transforms", "num_steps", "K"), "size.steps={}"),
    **dict.fromkeys(("num_bins", "bins"), "coupling.bins={}"),
    "optimized_metrics": "optimized_metric={}",
    "seed_everything": "seed={}",
    "extras": "leave it out",
}
RUN = dict.fromkeys(("ckpt_path", "checkpoint", "ckpt", "resume", "run_dir", "folder", "path", "model"), "run={}")
WORDS: Mapping[str, Mapping[str, str]] = {
    "train": TRAIN,
    "evaluate": RUN | {"K": "num_samples={}", "samples": "num_samples={}", "data.batch_size": "batch_size={}"},
    "sample": RUN
    | dict.fromkeys(("num_samples", "n_samples", "samples"), "n={}")
    | {"temp": "temperature={}", "T": "temperature={}"},
}
GIVEN_BY_RUN = ("flow", "coupling", "mask", "net", "prior", "data", "trainer", "optimizer")  # no choice of the other commands'
NEEDED = ("flow", "data", "objective", "optimizer", "scheduler", "trainer")
NONE = ("null", "none")


def translated(words: Sequence[str], command: str, groups: Mapping[str, Sequence[str]]) -> list[str]:
    """The words of a command line as Hydra reads them: ``group=null`` (or none, of a group without such a page) is ``~group``.

    Args:
        groups: the command's groups, and the members of each.

    Raises:
        Refused: where a word is another program's, with ours; or where a group is chosen twice.
    """
    chosen: dict[str, str] = {}
    for word in words:
        key, _, value = word.partition("=")
        name = key.lstrip("+~")
        if cure := WORDS[command].get(name):
            said = spelt(cure, name, value)
            raise Refused(f"{word} is said otherwise here: say {said}" if "=" in said else f"{word} is no word here: {said}")
        if command != "train" and name in GIVEN_BY_RUN and "=" in word:
            raise Refused(f"{word} is as the run was trained: leave it out, laminar-{command} --help lists what can be said")
        if name in groups and name in chosen and not key.startswith("~"):
            raise Refused(f"{name} is chosen twice, by {chosen[name]} and by {word}: keep one of them")
        if name in NEEDED and (key.startswith("~") or value in NONE) and command == "train":
            raise Refused(f"{word} leaves a run without what it needs: laminar-train list {name} shows what there is")
        chosen[name] = word
    return [f"~{word.partition('=')[0]}" if _none(word, groups) else word for word in words]


def spelt(cure: str, name: str, value: str) -> str:
    """A cure with the value that was given."""
    return cure.format(value or "...", name=name.rpartition(".")[2])


def _none(word: str, groups: Mapping[str, Sequence[str]]) -> bool:
    group, _, value = word.partition("=")
    return value in NONE and group in groups and value not in groups[group]
