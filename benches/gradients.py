"""How long does a divergence with its gradient take? kullback beside JAX, jitted, on the CPU.

    python benches/gradients.py [--rows N] [--rounds N] [--markdown]

Rows of float32 logits, V = 128,256, q = p + noise 0.3; the gradient is with respect to q's logits. Both run in turn in
one process, on the threads they take by themselves, and are checked first: ours against NumPy in float64, JAX (float32
log_softmax) against ours.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import harness
import jax
import jax.numpy as jnp
import numpy as np

import kullback as kb

WIDTH = 128_256


def jax_kl(x: Any, y: Any) -> Any:
    """KL(p || q) summed over rows."""
    p, q = jax.nn.log_softmax(x), jax.nn.log_softmax(y)
    return jnp.sum(jnp.exp(p) * (p - q))


def jax_js(x: Any, y: Any) -> Any:
    """Jensen-Shannon summed over rows, from the logarithm of the mixture."""
    p, q = jax.nn.log_softmax(x), jax.nn.log_softmax(y)
    m = jnp.logaddexp(p, q) - jnp.log(2.0)
    return 0.5 * jnp.sum(jnp.exp(p) * (p - m) + jnp.exp(q) * (q - m))


def check(name: str, x: Any, y: Any, peer: Callable[[], Any]) -> None:
    """Stop unless our gradient agrees with the definition, and the peer's with ours."""
    value, gradient = kb.value_and_grad(name, x, y)
    with kb.use_backend("numpy"):
        truth, moved = kb.value_and_grad(name, x[:2].astype(np.float64), y[:2].astype(np.float64))
    np.testing.assert_allclose(value[:2], truth, rtol=1e-6)
    np.testing.assert_allclose(gradient[:2], moved, rtol=0.0, atol=1e-6 * np.abs(moved).max())
    total, other = peer()
    np.testing.assert_allclose(total, value.sum(), rtol=1e-3)
    np.testing.assert_allclose(other, gradient, rtol=0.0, atol=1e-3 * np.abs(gradient).max())


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(arguments.rows, WIDTH)) * 3.0).astype(np.float32)
    y = x + (rng.normal(size=x.shape) * 0.3).astype(np.float32)
    lines = []
    for name, function in (("kl", jax_kl), ("js", jax_js)):
        compiled = jax.jit(jax.value_and_grad(function, argnums=1))
        of_jax = jnp.asarray(x), jnp.asarray(y)

        def peer(compiled: Any = compiled, of_jax: Any = of_jax) -> Any:
            return jax.block_until_ready(compiled(*of_jax))

        check(name, x, y, peer)
        calls = {"kullback": lambda name=name: kb.value_and_grad(name, x, y), "JAX": peer}
        seconds: dict[str, list[float]] = {contestant: [] for contestant in calls}
        for _ in range(arguments.rounds):
            for contestant, call in calls.items():
                begin = time.perf_counter()
                call()
                seconds[contestant].append(time.perf_counter() - begin)
        ratio = statistics.median(b / a for a, b in zip(seconds["kullback"], seconds["JAX"], strict=True))
        best = {contestant: statistics.median(times) * 1e3 for contestant, times in seconds.items()}
        lines.append([name, f"{best['kullback']:.1f}", f"{best['JAX']:.1f}", f"{ratio:.1f}"])
    info = kb.info()
    what = f"{arguments.rows} rows of {WIDTH} float32 logits"
    print(f"{what}; {info['isa']}, {info['threads']} threads; JAX {jax.__version__}")
    print(harness.table(["", "kullback ms", "JAX ms", "times"], lines, markdown=arguments.markdown))


if __name__ == "__main__":
    main()
