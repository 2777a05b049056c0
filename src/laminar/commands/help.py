"""What ``--help`` shows: examples, the command's groups and options from its page, and the flags."""

from laminar.commands.columns import columns
from laminar.config.heads import groups, options
from laminar.config.pages import CONF

FLAGS = (
    ("-m, --multirun", "run every combination of comma-separated values"),
    ("--cfg job", "show the composed config and stop"),
    ("--config-dir DIR", "add a folder with pages of your own"),
    ("--version", "show Laminar's version"),
    ("HYDRA_FULL_ERROR=1", "before the command: show tracebacks"),
)


def text(command: str, about: str) -> str:
    parts = [about.strip()]
    if chosen := groups(command):
        rows = [(line.name, line.default, line.meaning) for line in chosen]
        parts.append(f"Groups, as group=member (laminar-{command} list GROUP shows what there is):\n" + columns(rows))
    rows = [(line.name, line.default.replace('"', ""), line.meaning) for line in options(CONF / f"{command}.yaml")]
    parts.append("Options, as key=value:\n" + columns([(name, value.replace("???", "-"), why) for name, value, why in rows]))
    parts.append("Flags:\n" + columns(FLAGS))
    return "\n\n".join(parts)
