"""TopK and compare_topk: records, the three rules, and bounds held against explicit completions."""

import itertools
import math

import hypothesis
import hypothesis.strategies as st
import ml_dtypes
import numpy as np
import pytest
from helpers import KINDS, as_kind, random_rows

import kullback as kb
from kullback._core import tails

NAMES = ("kl", "reverse_kl", "js", "total_variation")


def exact(name, p, q):
    """Evaluate full rows of weights."""
    return np.asarray(kb.divergence(name, p, q, input="weights"))


def masses(rng, size, zeros=0.2):
    """Draw a distribution, some of whose tokens have no mass."""
    weights = rng.gamma(0.5, size=size) + 1e-3
    weights[rng.random(size) < zeros] = 0.0
    weights[rng.integers(size)] += 0.1
    return weights / weights.sum()


def top(probs, k):
    return np.argsort(-probs, kind="stable")[:k]


def as_list(probs, ids, known_tail):
    with np.errstate(divide="ignore"):
        tail = np.log(np.delete(probs, ids).sum()) if known_tail else None
        return kb.TopK(ids, np.log(probs[ids]), probs.size, log_tail=tail)


@st.composite
def problems(draw, sorted_tail=False):
    """Draw two distributions over a few tokens and the ids that each side lists."""
    size = draw(st.integers(2, 7))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    p = masses(rng, size, 0.0 if sorted_tail else 0.2)
    q = masses(rng, size, 0.0 if sorted_tail else 0.2) if draw(st.booleans()) else p.copy()
    counts = draw(st.integers(1, size)), draw(st.integers(1, size))
    pick = (lambda row, k: top(row, k)) if sorted_tail else (lambda row, k: rng.permutation(size)[:k])
    ids = pick(p, counts[0]), pick(q, counts[1])
    for row, at in ((p, ids[0]), (q, ids[1])):
        # An empty tail that 1 less the list makes 1e-17 is another problem than this one.
        hypothesis.assume(at.size == size or np.delete(row, at).sum() > 0.0)
    return p, q, ids, draw(st.booleans()), rng


def caps_of(probs, ids, sorted_tail):
    return probs[ids].min() if sorted_tail and ids.size < probs.size else math.inf


def corners(probs, ids, cap):
    """Yield every extreme completion of a row: full tokens, one remainder, the rest empty."""
    unseen = np.setdiff1d(np.arange(probs.size), ids)
    total = probs[unseen].sum()
    full = 0 if math.isinf(cap) else int(np.floor(total / cap * (1.0 + 1e-14)))
    rest = max(total - full * cap, 0.0) if full else total
    for chosen in itertools.combinations(unseen, min(full, unseen.size)):
        others = np.setdiff1d(unseen, chosen)
        for last in others if rest > 1e-12 and others.size else [None]:
            row = probs.copy()
            row[unseen] = 0.0
            row[list(chosen)] = cap
            if last is not None:
                row[last] = rest
            yield row


def completions(rng, probs, ids, cap, count):
    """Draw random completions, as mixtures of corners and as Dirichlet rows where there is no cap."""
    ends = np.array(list(corners(probs, ids, cap)))
    shares = rng.dirichlet(np.full(len(ends), 0.3), size=count)
    rows = shares @ ends
    rows[:, ids] = probs[ids]
    return rows


def bounds_of(p, q, ids, known_tail, sorted_tail):
    lists = as_list(p, ids[0], known_tail), as_list(q, ids[1], known_tail)
    return kb.compare_topk(*lists, tail="bounds", sorted_tail=sorted_tail)


@pytest.mark.parametrize("sorted_tail", [False, True])
@hypothesis.given(data=st.data())
@hypothesis.settings(max_examples=60)
def test_completions_lie_inside_and_corners_attain_the_highest(backend, sorted_tail, data):
    p, q, ids, known_tail, rng = data.draw(problems(sorted_tail))
    bounds = bounds_of(p, q, ids, known_tail, sorted_tail)
    cap_p, cap_q = caps_of(p, ids[0], sorted_tail), caps_of(q, ids[1], sorted_tail)
    rows_p, rows_q = (completions(rng, row, at, cap, 40) for row, at, cap in ((p, ids[0], cap_p), (q, ids[1], cap_q)))
    rows_p, rows_q = np.vstack([p, rows_p]), np.vstack([q, rows_q])
    ends = list(itertools.product(corners(p, ids[0], cap_p), corners(q, ids[1], cap_q)))
    ends_p, ends_q = (np.array([pair[side] for pair in ends]) for side in (0, 1))
    for name in NAMES:
        low, high = bounds[f"{name}_low"], bounds[f"{name}_high"]
        inside = exact(name, rows_p, rows_q)
        assert (inside >= low * (1.0 - 1e-9) - 1e-12).all(), name
        assert (inside <= high * (1.0 + 1e-9) + 1e-12).all(), name
        attained = exact(name, ends_p, ends_q).max()
        np.testing.assert_allclose(high, attained, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("sorted_tail", [False, True])
@hypothesis.given(data=st.data())
@hypothesis.settings(max_examples=60)
def test_a_completion_attains_the_lowest_and_no_way_leads_down_from_it(backend, sorted_tail, data):
    p, q, ids, known_tail, _ = data.draw(problems(sorted_tail))
    bounds = bounds_of(p, q, ids, known_tail, sorted_tail)
    cap_p, cap_q = caps_of(p, ids[0], sorted_tail), caps_of(q, ids[1], sorted_tail)
    unseen = np.setdiff1d(np.arange(p.size), np.union1d(*ids))
    p_only, q_only = np.setdiff1d(*ids), np.setdiff1d(*ids[::-1])
    tail_p, tail_q = np.delete(p, ids[0]).sum(), np.delete(q, ids[1]).sum()
    if sorted_tail:
        caps = max(cap_p, tail_p / max(p.size - ids[0].size, 1)), max(cap_q, tail_q / max(q.size - ids[1].size, 1))
        x, y, shares = tails.best_completion(p[p_only], q[q_only], (tail_p, tail_q), caps, unseen.size)
    else:
        x, y, shares = cheapest(p[p_only], q[q_only], tail_p, tail_q, unseen.size)
    best_p, best_q = p.copy(), q.copy()
    best_p[q_only], best_q[p_only] = x, y
    if unseen.size:
        best_p[unseen], best_q[unseen] = shares[0] / unseen.size, shares[1] / unseen.size
    np.testing.assert_allclose([best_p.sum(), best_q.sum()], 1.0, rtol=1e-12)
    for row, cap, at in ((best_p, cap_p, ids[0]), (best_q, cap_q, ids[1])):
        assert (np.delete(row, at) <= cap * (1.0 + 1e-9)).all()
    step = 1e-4
    ends = list(itertools.product(corners(p, ids[0], cap_p), corners(q, ids[1], cap_q)))
    toward_p, toward_q = (np.array([pair[side] for pair in ends]) for side in (0, 1))
    for name in NAMES:
        low = bounds[f"{name}_low"]
        np.testing.assert_allclose(low, exact(name, best_p, best_q), rtol=1e-9, atol=1e-13, err_msg=name)
        # D is convex: if no corner lies downhill, nothing does.
        near = exact(name, (1 - step) * best_p + step * toward_p, (1 - step) * best_q + step * toward_q)
        if np.isfinite(low):
            assert (near >= low - 1e-10).all(), name


def cheapest(p, q, a, b, n):
    """Allocate tails without caps in proportion to what they meet: one ratio for all, or none for the unlisted."""
    if n and a * b >= p.sum() * q.sum():
        if b + q.sum() == 0.0:
            return np.zeros(q.size), np.zeros(p.size), (a, b)
        ratio = (a + p.sum()) / (b + q.sum())
        y = p / ratio if ratio else np.zeros(p.size)
        return ratio * q, y, (a - ratio * q.sum(), b - y.sum())
    shares = [
        values / values.sum() if values.sum() else np.full(values.size, 1 / max(values.size, 1)) for values in (q, p)
    ]
    return a * shares[0], b * shares[1], (0.0, 0.0)


@pytest.mark.parametrize("tail", ["bucket", "renormalize", "bounds", "sorted"])
def test_backends_agree(native, rng, tail):
    options = {"tail": "bounds", "sorted_tail": True} if tail == "sorted" else {"tail": tail}
    for size, k, scale in itertools.product((3, 12, 60), (1, 3), (2.0, 1e-2, 1e-6)):
        x = rng.normal(size=(20, size)) * 3.0
        y = x + scale * rng.normal(size=x.shape)
        p, q = kb.TopK.from_logits(x, k), kb.TopK.from_logits(y, min(size, k + 2))
        bare = kb.TopK(p.ids, p.log_probs, size), kb.TopK(q.ids, q.log_probs, size)
        for pair in ((p, q), bare, (p, y), (x, q), (p, bare[1])):
            actual = kb.compare_topk(*pair, **options)
            with kb.use_backend("numpy"):
                expected = kb.compare_topk(*pair, **options)
            for name in expected:
                # A log-probability near -5 is rounded by 4e-16, and to first order a divergence moves with ln q - ln p.
                atol = 1e-14 * (1.0 if name.startswith("total") else scale)
                what = f"{name} {size} {k} {scale}"
                np.testing.assert_allclose(actual[name], expected[name], rtol=1e-11, atol=atol, err_msg=what)


def test_hand_values(backend):
    p = kb.TopK([0, 1], np.log([0.5, 0.25]), 8)
    q = kb.TopK([0, 2], np.log([0.25, 0.5]), 8)
    ln2, ln3 = math.log(2.0), math.log(3.0)
    bucket = kb.compare_topk(p, q)
    # Outcomes: token 0 (1/2, 1/4), all others (1/2, 3/4).
    expected = {"kl": ln2 - ln3 / 2, "reverse_kl": 0.75 * math.log(1.5) - ln2 / 4, "total_variation": 0.25}
    for name, value in expected.items():
        np.testing.assert_allclose(bucket[name], value, rtol=1e-14)
    whole = kb.compare_topk(p, q, tail="renormalize")
    # (2/3, 1/3, 0) and (1/3, 0, 2/3).
    assert whole["kl"] == whole["reverse_kl"] == np.inf
    np.testing.assert_allclose(whole["total_variation"], 2 / 3, rtol=1e-14)
    bounds = kb.compare_topk(p, q, tail="bounds")
    # a·b = 1/16 is less than P·Q = 1/8: each tail goes beside what the other side lists alone.
    np.testing.assert_allclose(bounds["kl_low"], 0.5 * ln2 + 0.25 * math.log(0.5) + 0.25 * math.log(1.0), atol=1e-15)
    np.testing.assert_allclose(bounds["total_variation_low"], 0.25, rtol=1e-14)
    np.testing.assert_allclose(bounds["total_variation_high"], 0.75, rtol=1e-14)
    assert bounds["kl_high"] == bounds["reverse_kl_high"] == np.inf
    # Two tokens, all known: nothing to bound.
    whole = kb.TopK([0, 1], np.log([0.5, 0.5]), 2), kb.TopK([1, 0], np.log([0.75, 0.25]), 2)
    bounds = kb.compare_topk(*whole, tail="bounds")
    for name in NAMES:
        expected = exact(name, [0.5, 0.5], [0.25, 0.75])
        np.testing.assert_allclose([bounds[f"{name}_low"], bounds[f"{name}_high"]], expected, rtol=1e-14)


@pytest.mark.parametrize("noise", [1e-2, 1e-5, 1e-7])
def test_close_rows_keep_their_digits(backend, rng, noise):
    x = rng.normal(size=(6, 400)) * 3.0
    y = x + noise * rng.normal(size=x.shape)
    p = kb.TopK.from_logits(x, 16)
    ids = p.ids
    logs = y - np.logaddexp.reduce(y, axis=-1, keepdims=True)
    for given in (False, True):
        of_y = np.take_along_axis(logs, ids, axis=-1)
        outside = np.array([np.logaddexp.reduce(np.delete(row, at)) for row, at in zip(logs, ids, strict=True)])
        q = kb.TopK(ids, of_y, 400, log_tail=outside if given else None)
        merged = []
        for rows in (x, y):
            weights = np.exp(rows - rows.max(axis=-1, keepdims=True))
            kept = np.take_along_axis(weights, ids, axis=-1)
            np.put_along_axis(weights, ids, 0.0, axis=-1)
            merged.append(np.column_stack([kept, weights.sum(axis=-1)]))
        bare = kb.TopK(ids, p.log_probs, 400)
        result = kb.compare_topk(p if given else bare, q)
        for name in NAMES:
            # The rows of both sides were rounded to float64 on the way: that much is not the library's.
            np.testing.assert_allclose(result[name], exact(name, *merged), rtol=2e-13 / noise + 1e-11, err_msg=name)


def test_a_tail_known_by_itself(backend):
    # A row so certain that 1 less its list has no digits.
    x = np.array([0.0, -40.0, -50.0, -52.0])
    p = kb.TopK.from_logits(x, 2)
    tail = math.exp(-50.0) + math.exp(-52.0)
    np.testing.assert_allclose(p.tail_mass, tail, rtol=1e-13)
    np.testing.assert_allclose(p.log_tail, math.log(tail), rtol=1e-15)
    np.testing.assert_allclose(p.log_probs, [-math.exp(-40.0) - tail, -40.0], rtol=1e-13)
    y = np.array([0.0, -40.0, -49.0, -52.0])
    q = kb.TopK.from_logits(y, 2)
    value = kb.compare_topk(p, q)["kl"]
    merged = [[1.0, math.exp(-40.0), np.exp(row[2:]).sum()] for row in (x, y)]
    np.testing.assert_allclose(value, exact("kl", *merged), rtol=1e-12)
    # Without log_tail the mass of 1 leaves nothing.
    assert kb.TopK([0], [0.0], 5).tail_mass == 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_full_rows_beside_lists(backend, rng, kind):
    probs = random_rows(rng, (3, 30), "probs", np.float64)
    other = random_rows(rng, (3, 30), "probs", np.float64)
    p = kb.TopK.from_logits(probs, 4, input="probs")
    rows = as_kind(other, kind)
    for full, q in ((rows, other), (rows.astype(np.float32), as_kind(other, kind).astype(np.float32))):
        del q
        wide = full.astype(np.float64)
        at = np.take_along_axis(wide, p.ids, axis=-1)
        for tail in ("bucket", "renormalize"):
            result = kb.compare_topk(p, full, tail=tail, input=kind)
            mirrored = kb.compare_topk(full, p, tail=tail, input=kind)
            np.testing.assert_array_equal(mirrored["kl"], result["reverse_kl"])
            with np.errstate(divide="ignore"):
                known = wide / wide.sum(-1, keepdims=True) if kind in ("probs", "weights") else None
                if known is None:
                    known = np.exp(wide - np.logaddexp.reduce(wide, axis=-1, keepdims=True))
            kept = np.exp(p.log_probs), np.take_along_axis(known, p.ids, axis=-1)
            if tail == "bucket":
                kept = tuple(np.column_stack([part, 1.0 - part.sum(axis=-1)]) for part in kept)
            for name in NAMES:
                np.testing.assert_allclose(result[name], exact(name, *kept), rtol=1e-9, err_msg=name)
        assert at.shape == (3, 4)
    # Where the full row is known everywhere, KL(p || q) is bounded: all of p's tail on q's least token.
    bounds = kb.compare_topk(p, rows, tail="bounds", input=kind)
    for row in range(3):
        outside = np.setdiff1d(np.arange(30), p.ids[row])
        worst = np.where(np.isin(np.arange(30), p.ids[row]), probs[row], 0.0)
        worst[outside[np.argmin(other[row][outside])]] = probs[row][outside].sum()
        np.testing.assert_allclose(bounds["kl_high"][row], exact("kl", worst, other[row]), rtol=1e-10)
        best = np.where(np.isin(np.arange(30), p.ids[row]), probs[row], 0.0)
        best[outside] = other[row][outside] / other[row][outside].sum() * probs[row][outside].sum()
        np.testing.assert_allclose(bounds["kl_low"][row], exact("kl", best, other[row]), rtol=1e-10)


def test_every_rule_brackets_the_truth_on_a_large_vocabulary(backend, rng):
    x = rng.normal(size=(4, 3000)).astype(np.float32) * 3
    y = (x + rng.normal(size=x.shape) * 0.3).astype(np.float32)
    p, q = kb.TopK.from_logits(x, 40), kb.TopK.from_logits(y, 40)
    truth = kb.compare(x, y, metrics=NAMES)
    bucket = kb.compare_topk(p, q)
    loose, tight = (kb.compare_topk(p, q, tail="bounds", sorted_tail=flag) for flag in (False, True))
    for name in NAMES:
        assert (bucket[name] <= truth[name]).all()
        assert (bucket[name] <= loose[f"{name}_low"] * (1.0 + 1e-12)).all()
        assert (loose[f"{name}_low"] <= tight[f"{name}_low"] * (1.0 + 1e-12)).all()
        assert (tight[f"{name}_low"] <= truth[name]).all()
        assert (truth[name] <= tight[f"{name}_high"]).all()
        assert (tight[f"{name}_high"] <= loose[f"{name}_high"] * (1.0 + 1e-12)).all()


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_from_logits(backend, rng, dtype, kind):
    rows = random_rows(rng, (2, 3, 50), kind, dtype)
    kept = kb.TopK.from_logits(rows, 7, input=kind)
    wide = rows.astype(np.float64)
    logs = np.log(wide) if kind in ("probs", "weights") else wide
    logs = logs - np.logaddexp.reduce(logs, axis=-1, keepdims=True)
    order = np.argsort(-wide, axis=-1, kind="stable")
    np.testing.assert_array_equal(kept.ids, order[..., :7])
    ordered = np.take_along_axis(logs, order, axis=-1)
    np.testing.assert_allclose(kept.log_probs, ordered[..., :7], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(kept.log_tail, np.logaddexp.reduce(ordered[..., 7:], axis=-1), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(kept.tail_mass, np.exp(kept.log_tail), rtol=1e-12)
    whole = kb.TopK.from_logits(rows, 50, input=kind)
    assert (whole.log_tail == -np.inf).all()
    assert (whole.tail_mass == 0.0).all()
    across = kb.TopK.from_logits(np.moveaxis(rows, -1, 0), 7, input=kind, axis=0)
    np.testing.assert_array_equal(across.ids, kept.ids)


def test_from_logits_options(backend, rng):
    rows = rng.normal(size=(3, 2000))
    kept = kb.TopK.from_logits(rows, 1500, temperature=0.5, vocab_size=1800)
    np.testing.assert_array_equal(kept.ids, np.argsort(-rows[:, :1800], axis=-1, kind="stable")[:, :1500])
    logs = 2.0 * rows[:, :1800] - np.logaddexp.reduce(2.0 * rows[:, :1800], axis=-1, keepdims=True)
    np.testing.assert_allclose(kept.log_probs, np.take_along_axis(logs, kept.ids, axis=-1), rtol=1e-12)
    assert kept.vocab_size == 1800
    rows[1, 3] = np.nan
    kept = kb.TopK.from_logits(rows, 2)
    assert np.isnan(kept.tail_mass).tolist() == [False, True, False]
    assert kept.ids[1].tolist() == [0, 1]
    assert np.isnan(kb.compare_topk(kept, rows)["kl"]).tolist() == [False, True, False]
    with pytest.raises(ValueError, match="the result is NaN for row 1"):
        kb.TopK.from_logits(rows, 2, nan_policy="raise")
    with pytest.raises(ValueError, match=r"k must be between 1 and 2000 \(the length of a row\), got 0"):
        kb.TopK.from_logits(rows, 0)
    ties = kb.TopK.from_logits([1.0, 2.0, 2.0, -np.inf], 3)
    assert ties.ids.tolist() == [1, 2, 0]
    none = kb.TopK.from_logits([0.0, -np.inf, -np.inf], 2)
    assert (none.log_probs.tolist(), float(none.log_tail)) == ([0.0, -np.inf], -np.inf)
    assert kb.TopK.from_logits(np.empty((0, 4)), 2).ids.shape == (0, 2)


def test_records(rng):
    rows = rng.normal(size=(4, 3, 20))
    kept = kb.TopK.from_logits(rows, 5)
    assert (len(kept), kept.shape, kept.k, kept.n_rows) == (4, (4, 3), 5, 12)
    part = kept[1:, 0]
    assert part.shape == (3,)
    np.testing.assert_array_equal(part.ids, kept.ids[1:, 0])
    np.testing.assert_array_equal(part.log_tail, kept.log_tail[1:, 0])
    one = part[0]
    assert one.shape == ()
    assert np.isscalar(one.tail_mass)
    assert repr(one).startswith("TopK(1 row of 5 among 20 tokens, float64, mean tail mass 0.")
    with pytest.raises(TypeError, match="has no length"):
        len(one)
    with pytest.raises(IndexError, match="cannot be indexed"):
        one[0]
    assert len(list(kept)) == 4
    stored = kb.TopK(kept.ids, kept.log_probs.astype(np.float32), 20)
    assert stored.log_probs.dtype == np.float32
    assert kb.TopK([1], np.array([-1.0], np.float16), 5).log_probs.dtype == np.float32
    assert "nan" not in repr(kb.TopK([1], [np.nan], 5))


def test_shorter_rows(backend):
    padded = kb.TopK([[4, -1, 2], [-1, -1, -1]], [[-0.5, -np.inf, -2.0], [-np.inf] * 3], 6)
    bare = kb.TopK([2, 4], [-2.0, -0.5], 6)
    other = kb.TopK([4, 0], [-0.25, -2.0], 6)
    for tail in ("bucket", "renormalize", "bounds"):
        result, expected = kb.compare_topk(padded, other, tail=tail), kb.compare_topk(bare, other, tail=tail)
        for name in expected:
            np.testing.assert_array_equal(result[name][0], expected[name])
    # Of a row that lists nothing nothing is known.
    assert kb.compare_topk(padded, other)["kl"][1] == 0.0
    assert np.isnan(kb.compare_topk(padded, other, tail="renormalize")["kl"][1])
    bounds = kb.compare_topk(padded, other, tail="bounds")
    assert bounds["kl_low"][1] < 1e-15
    assert bounds["kl_high"][1] == np.inf


def test_zeros_and_lists_without_a_tail(backend):
    # Listed at probability 0; a list of mass 1 beside one that leaves some outside.
    p = kb.TopK([0, 1], [0.0, -np.inf], 4)
    q = kb.TopK([0, 1], np.log([0.5, 0.25]), 4)
    result = kb.compare_topk(p, q)
    np.testing.assert_allclose(result["kl"], math.log(2.0), rtol=1e-14)
    assert result["reverse_kl"] == np.inf
    np.testing.assert_allclose(result["total_variation"], 0.5, rtol=1e-14)
    over = kb.TopK([0, 1], np.log([0.75, 0.251]), 4)
    assert over.tail_mass == 0.0
    np.testing.assert_allclose(kb.compare_topk(over, over, tail="bounds")["js_high"], 0.0, atol=1e-15)


def test_broadcasting_and_results(backend, rng):
    x = rng.normal(size=(5, 30))
    p, q = kb.TopK.from_logits(x[0], 3), kb.TopK.from_logits(x, 4)
    result = kb.compare_topk(p, q)
    assert result.shape == (5,)
    assert list(result) == list(NAMES)
    for row in range(5):
        np.testing.assert_array_equal(kb.compare_topk(p, q[row])["js"], result["js"][row])
        np.testing.assert_array_equal(kb.compare_topk(p, x[row])["js"], kb.compare_topk(p, x)["js"][row])
    assert list(kb.compare_topk(p, q, tail="bounds"))[:2] == ["kl_low", "kl_high"]
    grid = kb.compare_topk(kb.TopK(p.ids[np.newaxis, np.newaxis], p.log_probs[np.newaxis, np.newaxis], 30), q)
    assert grid.shape == (1, 5)
    assert kb.compare_topk(q[:0], q[0])["kl"].shape == (0,)
    one = kb.compare_topk(p, q, threads=1)
    np.testing.assert_array_equal(one["kl"], result["kl"])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([1.5], [-1.0], 5), TypeError, "ids must hold integer token ids, got dtype float64"),
        (([1], [-1.0, -2.0], 5), ValueError, r"one shape \(..., k\) with k at least 1, got \(1,\) and \(2,\)"),
        ((1, -1.0, 5), ValueError, r"one shape \(..., k\)"),
        (([5], [-1.0], 5), ValueError, "ids must be between 0 and 4, or -1 for none, got 5 in the row"),
        (([[0], [-2]], [[-1.0], [-1.0]], 5), ValueError, "got -2 in row 1"),
        (([2, 0, 2], [-1.0, -2.0, -3.0], 5), ValueError, "ids must not repeat in a row, got 2 twice in the row"),
        (([2, -1], [-1.0, -2.0], 5), ValueError, "log_probs must be -inf beside an id of -1, got -2 in the row"),
        (([2], [0.5], 5), ValueError, "log_probs must not be above 0, got 0.5 in the row, column 0"),
        (([2], [np.inf], 5), ValueError, "log_probs must not be above 0, got inf"),
        (([2, 1], [-0.1, -0.1], 5), ValueError, "must have a mass of at most 1 within 0.01, got 1.81 in the row"),
        (([0, 1], [-1.0, -2.0], 2), ValueError, "must have a mass of 1 within 0.01, got 0.5032"),
        (([0], [-1.0], 0), ValueError, "vocab_size must be between 1 and 2147483647, got 0"),
        (([0], ["a"], 5), TypeError, "log_probs must hold real numbers"),
    ],
)
def test_hostile_lists(arguments, error, message):
    with pytest.raises(error, match=message):
        kb.TopK(*arguments)


def test_hostile_tails():
    with pytest.raises(ValueError, match=r"mass of 1 together with log_tail within 0.01, got 0\.7358"):
        kb.TopK([0], [-1.0], 5, log_tail=-1.0)
    with pytest.raises(ValueError, match=r"log_tail must have the leading shape \(\), got \(1,\)"):
        kb.TopK([0], [-1.0], 5, log_tail=[-1.0])
    assert kb.TopK([0], [-1.0], 5, log_tail=math.log(-math.expm1(-1.0))).tail_mass > 0.6


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        (None, {"tail": "drop"}, ValueError, "tail must be one of bucket, renormalize, bounds, got 'drop'"),
        (None, {"sorted_tail": True}, ValueError, "sorted_tail narrows tail=\"bounds\", got tail='bucket'"),
        (None, {"tail": "bounds", "sorted_tail": 1}, TypeError, "sorted_tail must be True or False, got 1"),
        (None, {"nan_policy": "drop"}, ValueError, "nan_policy must be"),
        (None, {"threads": 0}, ValueError, "threads must be"),
        (None, {"input": "logit"}, ValueError, "input must be one of"),
        (kb.TopK([0], [-1.0], 6), {}, ValueError, "p and q must have one vocab_size, got 5 and 6"),
        (kb.TopK([[0], [1], [2]], [[-1.0]] * 3, 5), {}, ValueError, r"shapes that broadcast, got \(2,\) and \(3,\)"),
        (np.zeros(6), {}, ValueError, r"q must have rows of the vocab_size 5 of the other side, got shape \(6,\)"),
        (np.array(0.0), {}, ValueError, r"got shape \(\)"),
        (
            np.full((2, 5), -0.5),
            {"input": "weights"},
            ValueError,
            "q must not hold negative weights, got -0.5 in row 0",
        ),
        (np.full((2, 5), 0.5), {"input": "probs"}, ValueError, "q must hold probabilities that sum to 1"),
        (np.zeros((2, 5)), {"input": "log_probs"}, ValueError, "q must hold log-probabilities whose log-sum-exp"),
        (np.full(5, np.nan), {"nan_policy": "raise"}, ValueError, "the result is NaN for row 0"),
        (["a"] * 5, {}, TypeError, "q must hold real numbers"),
    ],
)
def test_hostile_calls(backend, change, options, error, message):
    p = kb.TopK([[0, 1], [2, 3]], [[-1.0, -2.0], [-0.5, -3.0]], 5)
    with pytest.raises(error, match=message):
        kb.compare_topk(p, p if change is None else change, **options)


def test_two_full_rows_are_for_compare():
    with pytest.raises(TypeError, match="p or q must be a TopK, got two arrays"):
        kb.compare_topk([0.0, 1.0], [1.0, 0.0])


def test_lists_that_are_no_top_k():
    p = kb.TopK([[0], [1]], np.log([[0.5], [0.125]]), 4)
    message = (
        "unseen tokens of p must fit below its least listed probability, got a tail of 0.875 where 0.375 fits in row 1"
    )
    with pytest.raises(ValueError, match=message):
        kb.compare_topk(p, p, tail="bounds", sorted_tail=True)
