"""Which logits the demo compares, and how they get into files."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smollm2 import model
from smollm2.weights import Weights


@dataclass(frozen=True)
class Variant:
    """One way to compute logits from the same file."""

    name: str
    meaning: str
    form: str | None = None
    linear: model.Linear = model.linear

    def weight(self, weights: Weights) -> Callable[[str], model.Array]:
        """Return the function that the forward pass asks for tensors."""
        if self.form is None:
            return weights.original
        form = self.form
        return lambda name: weights.round_trip(name, form)


REFERENCE = Variant("reference", "the weights as the file has them, dequantised to float32")
REORDERED = Variant("reordered", "the same weights, every sum taken in two halves", linear=model.linear_in_halves)


def variants(forms: Sequence[str]) -> list[Variant]:
    """Return the reference, the reordered reference, and one variant per quantisation."""
    quantised = [Variant(form.lower(), f"block matrices rounded to {form} and back", form) for form in forms]
    return [REFERENCE, REORDERED, *quantised]


def write_logits(
    path: Path, variant: Variant, weights: Weights, tokens: NDArray[np.int64], on_block: Callable[[int], None]
) -> None:
    """Write the logits of all windows to ``path``: float32, (window · position, vocabulary).

    The file appears complete or not at all.
    """
    weight = variant.weight(weights)
    states = model.hidden_states(weights.config, weight, tokens, linear=variant.linear, on_block=on_block)
    windows = model.logits_by_window(states, weight, linear=variant.linear)
    n_windows, n_positions = tokens.shape
    part = path.with_name(f"{path.name}.part")
    try:
        out: NDArray[np.float32] | None = None
        for index, window in enumerate(windows):
            if out is None:
                shape = (n_windows * n_positions, window.shape[-1])
                out = np.lib.format.open_memmap(part, mode="w+", dtype=np.float32, shape=shape)
            out[index * n_positions : (index + 1) * n_positions] = window
        del out  # unmaps, so that the file can be renamed on every system
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def likeliest(variant: Variant, weights: Weights, prompt: NDArray[np.int64], n_best: int = 5) -> NDArray[np.int64]:
    """Return the ids of the ``n_best`` likeliest next tokens after one prompt, best first."""
    weight = variant.weight(weights)
    states = model.hidden_states(weights.config, weight, prompt[None], linear=variant.linear)
    last = next(model.logits_by_window(states[:, -1:], weight, linear=variant.linear))[0]
    return np.argsort(-last, kind="stable")[:n_best]
