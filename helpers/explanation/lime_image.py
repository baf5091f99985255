"""LIME for pictures (Ribeiro, Singh, Guestrin, "Why should I trust you?", KDD 2016), through the library `lime`.

The sampling, the kernel and the ridge regression are lime's own, so the coefficients are those of stock lime for the
same seed, to the last bit. What is new is that a whole batch of pictures is masked by array operations, that the
model gets large batches, and that bad input is refused before the work.

What this does not do: say whether the explanation is faithful or stable. That takes other seeds and a deletion test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from lime.lime_image import LimeImageExplainer
from tqdm.auto import tqdm

from helpers.explanation.predicting import checked

__all__ = ["SEGMENTATIONS", "FastLimeImageExplainer", "ImageExplanation", "explain_image", "hidden_picture", "segment"]

Array = np.ndarray[Any, Any]

SEGMENTATIONS = ("slic", "quickshift", "felzenszwalb")
SUPERPIXELS = 40  # asked of slic, which gives about as many
BATCH_BYTES = 64 * 2**20  # pictures of one batch, before the model makes floats of them
LARGEST = 4_000_000  # pixels; more is slow and shows nothing that a smaller picture does not


class FastLimeImageExplainer(LimeImageExplainer):
    """`lime.lime_image.LimeImageExplainer` whose pictures are masked a batch at a time. Everything else is lime's."""

    def __init__(self, *args: Any, progress: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.progress = progress

    def data_labels(
        self,
        image: Array,
        fudged_image: Array,
        segments: Array,
        classifier_fn: Callable[[Array], Array],
        num_samples: int,
        batch_size: int = 10,
    ) -> tuple[Array, Array]:
        """Which superpixels are kept (samples, superpixels) int, and the model's answers (samples, classes).

        As in lime, a superpixel whose number is not in 0 … superpixels - 1 is never hidden.
        """
        count = len(np.unique(segments))
        data = self.random_state.randint(0, 2, num_samples * count).reshape((num_samples, count))
        data[0] = 1
        masker = Masker(image, fudged_image, segments, count)
        starts = tqdm(range(0, num_samples, batch_size), desc="LIME", leave=False, disable=not self.progress)
        labels = [np.asarray(classifier_fn(masker(data[start : start + batch_size]))) for start in starts]
        return data, np.concatenate(labels)


class Masker:
    """Pictures with some superpixels replaced, a batch at a time.

    The channels lie one after the other in memory (planar), and the result is a view (n, h, w, 3): one look-up per
    pixel instead of three, and a network that wants channels first gets them without a copy.
    """

    def __init__(self, image: Array, hidden: Array, segments: Array, count: int) -> None:
        self.shape, self.count = image.shape, count
        planes = [np.ascontiguousarray(a.reshape(-1, image.shape[-1]).T) for a in (image, hidden)]
        self.image, self.hidden = planes
        numbers = segments.ravel()
        # the last column is for numbers that no column of the data stands for: always kept
        self.place = np.where((numbers >= 0) & (numbers < count), numbers, count).astype(np.intp)
        self.difference = self.image - self.hidden if image.dtype == np.uint8 else None  # modulo 256

    def __call__(self, keep: Array) -> Array:
        """`keep` (n, superpixels) of 0 and 1 -> pictures (n, h, w, channels) of the image's dtype."""
        height, width, channels = self.shape
        table = np.ones((len(keep), self.count + 1), np.uint8)
        table[:, : self.count] = keep
        on = table.take(self.place, axis=1)
        out = np.empty((len(keep), channels, height * width), self.image.dtype)
        for channel in range(channels):
            if self.difference is not None:  # hidden + keep · (image - hidden), exact modulo 256
                np.multiply(on, self.difference[channel], out=out[:, channel])
                out[:, channel] += self.hidden[channel]
            else:
                out[:, channel] = np.where(on.view(bool), self.image[channel], self.hidden[channel])
        return out.reshape(len(keep), channels, height, width).transpose(0, 2, 3, 1)


@dataclass(frozen=True)
class ImageExplanation:
    """What a linear model says about each superpixel of one picture.

    `weights[label]` (superpixels,) is the change of the label's probability when that superpixel is shown instead of
    hidden, by the local model; `labels` are the explained classes, most probable first. `lime` is lime's own object.
    """

    image: Array
    segments: Array
    hidden: Array
    probabilities: Array
    labels: tuple[int, ...]
    weights: dict[int, Array]
    intercept: dict[int, float]
    samples: int
    seed: int
    lime: Any = field(repr=False)

    def heat_map(self, label: int | None = None) -> Array:
        """(h, w) float: each pixel has the weight of its superpixel. `label`: by default the most probable class."""
        return self.weights[self._known(label)][self.segments]

    def top(self, count: int = 5, label: int | None = None) -> list[tuple[int, float]]:
        """The superpixels with the largest weights by size, as (number, weight)."""
        weights = self.weights[self._known(label)]
        return [(int(n), float(weights[n])) for n in np.argsort(-abs(weights), kind="stable")[:count]]

    def image_and_mask(self, label: int | None = None, **options: Any) -> tuple[Array, Array]:
        """lime's `get_image_and_mask`: picture (h, w, 3) and mask (h, w) of the superpixels that speak for the label.

        Options are lime's: positive_only=True, negative_only=False, hide_rest=False, num_features=5, min_weight=0.
        """
        return self.lime.get_image_and_mask(self._known(label), **options)

    def _known(self, label: int | None) -> int:
        wanted = self.labels[0] if label is None else label
        if wanted not in self.weights:
            raise ValueError(f"label must be one of the explained classes {self.labels}, got {label!r}")
        return wanted


def explain_image(
    image: Array,
    predict: Callable[[Array], Any],
    *,
    labels: int | Sequence[int] = 3,
    samples: int = 1500,
    segmentation: str | Callable[[Array], Any] = "slic",
    hide: float | Sequence[float] | None = None,
    batch_size: int = 64,
    seed: int = 0,
    progress: bool = True,
) -> ImageExplanation:
    """Explain one answer of a picture classifier: which superpixels speak for it, which against.

    Args:
        image: (h, w, 3) uint8, or float in 0..1; (h, w) is taken as grey.
        predict: pictures (n, h, w, 3) of the image's dtype -> probabilities (n, classes); see `image_classifier`.
        labels: how many of the most probable classes, or the numbers of classes.
        samples: pictures shown to the model; at least twice as many as there are superpixels.
        segmentation: "slic" (about 40 superpixels), "quickshift", "felzenszwalb", or a function image -> (h, w) ints.
        hide: None paints a hidden superpixel in its own mean colour; a grey level, or a colour, in the image's scale.
        batch_size: pictures in one call of `predict`; large pictures are given in smaller batches.
        seed: of the sampling. Another seed gives another explanation: see how much it differs.
        progress: show a bar while it runs. An interrupt leaves nothing behind.

    Same seed, segmentation and batch: the coefficients of `LimeImageExplainer` with its defaults.
    Raises TypeError or ValueError, naming the argument, for anything else; also when `predict` gives no probabilities.
    """
    picture = _checked_image(image)
    _must_be_counts(samples=samples, batch_size=batch_size)
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be a whole number from 0 to 2**32 - 1, got {seed!r}")
    colour = _checked_colour(hide, picture.dtype)
    ask = checked(predict)
    wanted = _wanted(labels, ask(picture[None]).shape[1])
    segments = segment(picture, segmentation)
    count = int(segments.max()) + 1
    if samples < 2 * count:
        raise ValueError(
            f"samples must be at least twice the number of superpixels ({count}), got {samples}: "
            "a regression with so few rows fits noise"
        )
    hidden = hidden_picture(picture, segments, colour)
    explainer = FastLimeImageExplainer(random_state=seed, progress=progress)
    asked: dict[str, Any] = (
        {"top_labels": wanted} if isinstance(wanted, int) else {"top_labels": None, "labels": wanted}
    )
    answers: list[Array] = []

    def remembered(pictures: Array) -> Array:
        found = ask(pictures)
        answers.extend(found[:1] if not answers else [])
        return found

    found = explainer.explain_instance(
        picture,
        remembered,
        hide_color=hidden,
        num_samples=samples,
        batch_size=max(1, min(batch_size, BATCH_BYTES // picture.nbytes)),
        segmentation_fn=lambda _: segments,
        **asked,
    )
    chosen = tuple(int(label) for label in (found.top_labels if isinstance(wanted, int) else wanted))
    weights = {}
    for label in chosen:
        weights[label] = np.zeros(count)
        for number, weight in found.local_exp[label]:
            weights[label][number] = weight
    intercept = {label: float(found.intercept[label]) for label in chosen}
    return ImageExplanation(
        picture, segments, hidden, answers[0], chosen, weights, intercept, samples, int(seed), found
    )


def segment(image: Array, segmentation: str | Callable[[Array], Any] = "slic") -> Array:
    """(h, w) int: the superpixel of each pixel, numbered from 0 without a gap, at least two.

    slic and quickshift have lime's or scikit-image's settings, except that slic begins at 0: with its own default the
    last superpixel would never be hidden by lime. Raises ValueError for an unknown name or when there is one segment.
    """
    from skimage import segmentation as algorithms

    if isinstance(segmentation, str):
        if segmentation not in SEGMENTATIONS:
            raise ValueError(f"segmentation must be one of {SEGMENTATIONS} or a function, got {segmentation!r}")
        found = {
            "slic": lambda: algorithms.slic(image, n_segments=SUPERPIXELS, compactness=10, start_label=0),
            "quickshift": lambda: algorithms.quickshift(image, kernel_size=4, max_dist=200, ratio=0.2),
            "felzenszwalb": lambda: algorithms.felzenszwalb(image, scale=100, min_size=150),
        }[segmentation]()
    elif callable(segmentation):
        found = np.asarray(segmentation(image))
    else:
        raise TypeError(f"segmentation must be a name or a function, got {type(segmentation).__name__}")
    if found.shape != image.shape[:2] or found.dtype.kind not in "iu":
        raise ValueError(
            f"segmentation must give whole numbers of shape {image.shape[:2]}, got {found.dtype} of shape {found.shape}"
        )
    numbers, renumbered = np.unique(found, return_inverse=True)
    if len(numbers) < 2:
        raise ValueError("segmentation must find at least two superpixels, got one: is the picture of one colour?")
    return renumbered.reshape(found.shape)


def hidden_picture(image: Array, segments: Array, hide: float | Sequence[float] | None = None) -> Array:
    """The picture (h, w, 3) that shows through where a superpixel is hidden: its mean colour, or the colour `hide`."""
    colour = _checked_colour(hide, image.dtype)
    if colour is not None:
        return np.broadcast_to(np.asarray(colour, dtype=image.dtype), image.shape).copy()
    numbers = segments.ravel()
    sizes = np.bincount(numbers)
    sums = [np.bincount(numbers, plane.ravel()) for plane in np.moveaxis(image, -1, 0)]
    means = np.stack(sums, axis=-1) / sizes[:, None]
    return means.astype(image.dtype)[segments]  # whole grey levels are cut off, not rounded, as lime's are


def _checked_colour(hide: Any, dtype: Any) -> float | Sequence[float] | None:
    if hide is None:
        return None
    largest, colour = 255 if dtype == np.uint8 else 1, np.asarray(hide, dtype=float)
    if colour.shape not in ((), (3,)) or not (np.isfinite(colour) & (colour >= 0) & (colour <= largest)).all():
        raise ValueError(f"hide must be None, a number or three numbers in 0..{largest}, got {hide!r}")
    return list(colour) if colour.ndim else float(colour)


def _checked_image(image: Any) -> Array:
    if not isinstance(image, np.ndarray):
        raise TypeError(f"image must be a numpy array (h, w, 3), got {type(image).__name__}")
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    if image.ndim != 3 or image.shape[2] != 3:
        hint = ""
        if image.ndim == 3 and image.shape[2] == 4:
            hint = ": an alpha channel? Take image[..., :3], or paste it on a background"
        elif image.ndim == 3 and image.shape[0] == 3:
            hint = ": channels first? Take image.transpose(1, 2, 0)"
        raise ValueError(f"image must be (h, w, 3), or (h, w) for grey, got shape {image.shape}{hint}")
    if image.dtype != np.uint8:
        if image.dtype.kind != "f":
            raise ValueError(f"image must be uint8 in 0..255 or float in 0..1, got {image.dtype}")
        if not np.isfinite(image).all():
            raise ValueError("image must be finite, got NaN or infinity")
        if image.min() < 0 or image.max() > 1:
            raise ValueError(
                f"image must be uint8 in 0..255 or float in 0..1, got floats {image.min():.3g} to {image.max():.3g}: "
                "divide by 255, or take image.astype(np.uint8)"
            )
    height, width = image.shape[:2]
    if min(height, width) < 8:
        raise ValueError(f"image must have at least 8×8 pixels, got {height}×{width}")
    if height * width > LARGEST:
        raise ValueError(f"image must have at most {LARGEST:,} pixels, got {height}×{width}: scale it down first")
    return image


def _must_be_counts(**values: Any) -> None:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"{name} must be a whole number from 1, got {value!r}")


def _wanted(labels: Any, classes: int) -> int | tuple[int, ...]:
    if isinstance(labels, bool):
        raise TypeError(f"labels must be a number of classes or a list of classes, got {labels!r}")
    if isinstance(labels, int | np.integer):
        if labels < 1:
            raise ValueError(f"labels must be at least 1, or a list of classes, got {labels}")
        return min(int(labels), classes)
    chosen = tuple(int(label) for label in labels)
    if not chosen or not all(0 <= label < classes for label in chosen):
        raise ValueError(f"labels must name classes 0 to {classes - 1}, got {list(labels)!r}")
    return chosen
