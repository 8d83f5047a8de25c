"""Finds pictures, makes some where there are none, and makes thumbnails.

Never writes beside the pictures it finds. A thumbnail appears under its name whole or not at all.
"""

import hashlib
import itertools
import os
import pathlib
from collections.abc import Iterator

from PIL import Image, ImageOps

ENDINGS = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff")
LEAST_SIDE = 20  # pixels; below are bullets and spacers
MOST_BYTES = 20_000_000
MOST_SEEN = 20_000  # a photo archive of a million files is not walked to its end
MADE = 240
MADE_SIZE = (480, 360)

Image.init()  # loads all formats now: what each slot would load for itself is shared when the mold has it


def find_pictures(root: pathlib.Path, most: int) -> list[str]:
    """Up to ``most`` pictures under ``root``, the largest files first (the most work), in a stable order."""
    seen = itertools.islice(_files(root), MOST_SEEN)
    by_size = sorted(((-size, path) for path, size in seen if size <= MOST_BYTES))
    usable = (path for _, path in by_size if _is_picture(path))
    return list(itertools.islice(usable, most))


def make_pictures(folder: pathlib.Path, number: int) -> list[str]:
    """``number`` pictures of the Mandelbrot set, ever deeper, always the same."""
    folder.mkdir(parents=True, exist_ok=True)
    return [str(_make_picture(folder / f"mandelbrot-{position:03}.png", position)) for position in range(number)]


def target_of(folder: pathlib.Path, photo: str) -> str:
    """Where the thumbnail of ``photo`` goes: one name for each path, whatever the folders were called."""
    path = pathlib.Path(photo)
    return str(folder / f"{path.stem[:40]}-{hashlib.sha256(os.fsencode(photo)).hexdigest()[:12]}.png")


def make_thumbnail(photo: str, target: str, size: int) -> None:
    """Write a picture of at most ``size`` by ``size`` pixels to ``target``; OSError where it cannot be decoded."""
    with Image.open(photo) as picture:
        picture.draft("RGB", (size * 2, size * 2))  # JPEG decodes small at once; no effect on others
        small = ImageOps.exif_transpose(picture).convert("RGBA")
    small.thumbnail((size, size))
    unfinished = pathlib.Path(f"{target}.{os.getpid()}.part")
    small.save(unfinished, "PNG")
    unfinished.replace(target)


def is_thumbnail(target: str, size: int) -> bool:
    """Whether ``target`` is a whole picture of the promised size."""
    try:
        with Image.open(target) as picture:
            picture.load()
            return max(picture.size) <= size
    except OSError:
        return False


def _files(root: pathlib.Path) -> Iterator[tuple[str, int]]:
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted(files):
            path = pathlib.Path(folder, name)
            if name.lower().endswith(ENDINGS) and _is_plain(path):
                yield str(path), path.stat().st_size


def _is_plain(path: pathlib.Path) -> bool:
    # a name that is not UTF-8 cannot be the argument of a task
    return str(path).isprintable() and path.is_file() and not path.is_symlink() and os.access(path, os.R_OK)


def _is_picture(path: str) -> bool:
    try:
        with Image.open(path) as picture:  # reads the header only
            return min(picture.size) >= LEAST_SIDE
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def _make_picture(path: pathlib.Path, position: int) -> pathlib.Path:
    if path.exists():
        return path
    reach = 1.5 / 1.02**position
    x, y = -0.7436, 0.1318  # the valley of sea horses
    grey = Image.effect_mandelbrot(MADE_SIZE, (x - reach, y - reach * 0.75, x + reach, y + reach * 0.75), 80)
    unfinished = path.with_suffix(".part")
    ImageOps.colorize(grey, "#1b2a49", "#ffd9a0", mid="#c0504d").save(unfinished, "PNG", compress_level=1)
    return unfinished.replace(path)
