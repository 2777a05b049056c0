"""A page of all pictures that lie in a folder, without scripts and without a network."""

from collections.abc import Iterator, Sequence
from html import escape
from os.path import relpath
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from laminar.config.whole import write_text

WIDE = 2.1  # times its height: a picture that has a row to itself
TOLD = {  # what a picture shows, in the order of the page
    "figures/curves": "Learning curves",
    "samples/best": "Samples of the best weights",
    "figures/density": "Density",
    "figures/pairs": "Columns against each other: data and samples",
    "figures/marginals": "Each column alone",
    "figures/calibration": "Calibration: ranks of the true values among the draws",
    "samples/classes": "Samples by class",
    "samples/temperatures": "Samples by temperature",
    "figures/interpolations": "From one image to another",
    "figures/reconstructions": "There and back",
    "figures/bits": "What each pixel costs",
    "figures/levels": "What each level decides",
    "figures/traversals": "What each latent changes",
    "figures/latents": "What each latent holds",
    "figures/aggregate": "Codes of all data, and the prior",
    "figures/latent_map": "Codes in the plane",
    "figures/layers": "The data, layer by layer",
    "figures/trajectories": "From noise to data",
    "figures/teacher": "Teacher and student",
    "figures/masks": "What each coupling is given and moves",
}
STYLE = """
:root { color-scheme: light }
body { margin: 0 auto; padding: 1.2rem; max-width: 1500px; color: #1c2026; background: #f4f5f7;
       font: 16px/1.45 system-ui, "DejaVu Sans", sans-serif }
h1 { font-size: 1.5rem; margin: .4rem 0 } h2 { font-size: 1.1rem; margin: 2rem 0 .6rem }
p, figcaption { color: #5b626b; margin: .2rem 0 } code { overflow-wrap: anywhere }
table { border-collapse: collapse; margin: 1rem 0; background: #fff; display: block; overflow-x: auto; width: fit-content;
        max-width: 100% }
td { padding: .25rem .8rem; border-bottom: 1px solid #e4e6e9 }
td:nth-child(2) { font-variant-numeric: tabular-nums; white-space: nowrap }
td:nth-child(3) { color: #5b626b }
.pictures { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 440px), 1fr));
            grid-auto-flow: dense; align-items: start }
.steps { display: flex; gap: 1rem; overflow-x: auto; padding-bottom: .6rem }
figure { margin: 0; padding: .7rem; background: #fff; border: 1px solid #e4e6e9; border-radius: 6px }
figure.wide { grid-column: 1 / -1 } .steps figure { flex: 0 0 min(85%, 340px) }
.steps figure.wide { flex-basis: min(95%, 760px) }
img { display: block; max-width: 100%; height: auto; margin: .4rem auto 0 }
"""


def page(folder: Path, path: Path, title: str, command: str, lines: Sequence[Sequence[str]]) -> None:
    """Writes ``path``: the lines as a table, below it the pictures in the folder's ``figures`` and ``samples``.

    Whatever comes from outside is escaped; links lead from the page to the pictures, so that the folder may move.
    """
    files = [file for kind in ("figures", "samples") for end in ("png", "gif") for file in folder.glob(f"{kind}/*.{end}")]
    names = {file: file.relative_to(folder).with_suffix("").as_posix() for file in files}
    known = sorted((file for file in files if names[file] in TOLD), key=lambda file: (list(TOLD).index(names[file]), file))
    steps = sorted(file for file in files if names[file].startswith("samples/step-"))
    others = sorted({*files} - {*known, *steps})
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in line)}</tr>\n" for line in lines)
    parts = [
        f"<h1>{escape(title)}</h1>\n<p><code>{escape(command)}</code></p>\n<table>{rows}</table>",
        *_section("In the end", "pictures", known, names, path),
        *_section("While it learned", "steps", steps, names, path),
        *_section("Drawn afterwards", "pictures", others, names, path),
    ]
    head = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
    )
    write_text(path, head + "\n".join(parts) + "\n</body>\n</html>\n")


def _section(heading: str, kind: str, files: Sequence[Path], names: dict[Path, str], path: Path) -> Iterator[str]:
    if files:
        yield f'<h2>{heading}</h2>\n<div class="{kind}">'
        yield from (_figure(file, names[file], path) for file in files)
        yield "</div>"


def _figure(file: Path, name: str, path: Path) -> str:
    stem = name.rpartition("/")[2]
    text = TOLD.get(name) or (f"Step {int(stem[5:]):,}" if stem.startswith("step-") and stem[5:].isdigit() else stem)
    link = escape(quote(Path(relpath(file, path.parent)).as_posix()))
    with Image.open(file) as picture:
        width, height = picture.size
    wide = ' class="wide"' if width > WIDE * height and width > 900 else ""
    shown = f'<img src="{link}" alt="{escape(text)}" width="{width}" height="{height}" loading="lazy">'
    return f'<figure{wide}><figcaption>{escape(text)}</figcaption><a href="{link}">{shown}</a></figure>'
