"""llama.cpp's own rule against what llama.cpp printed, and the exact rule beside it."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from kullback.scoring import InputError, UsageError, llama_rule, score
from kullback.scoring.sources import open_source


@pytest.fixture(scope="module")
def results(real_files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    return {rule: score(*real_files, folder / rule, kld_rule=rule)["q8"] for rule in ("llama.cpp", "exact")}


def test_printed_line_of_the_first_chunk(results):
    """35.1663 ± 17.3827  0.01973 ± 0.02273  0.00549 ± 0.00070  0.792 ± 0.119 %  96.774 ± 3.226 %, from live logits."""
    summary = results["llama.cpp"]
    perplexity = summary["perplexity_q"]
    assert perplexity.value == pytest.approx(35.1663, rel=1e-5)
    assert perplexity.standard_error == pytest.approx(17.3827, rel=2e-5)
    ratio = summary["log_perplexity_ratio"]
    assert ratio.value == pytest.approx(0.01973, abs=1.5e-5)
    assert ratio.standard_error == pytest.approx(0.02273, abs=1.5e-5)
    assert summary["kl"].mean.value == pytest.approx(0.00549, abs=1e-5)
    assert summary["kl"].mean.standard_error == pytest.approx(0.00070, abs=1e-5)
    rms = summary["rms_delta_prob"]
    assert rms.value == pytest.approx(0.00792, abs=1e-5)
    assert rms.standard_error == pytest.approx(0.00119, abs=1e-5)
    top = summary["same_top"]
    assert top.value == 30 / 31
    assert top.standard_error == pytest.approx(0.03226, abs=5e-6)


def test_base_perplexity_follows_from_the_printed_figures(results):
    assert results["llama.cpp"]["perplexity_p"].value == pytest.approx(35.1663 / np.exp(0.01973), rel=2e-5)


def test_exact_rule_is_close_but_not_the_same(results):
    exact, tool = results["exact"], results["llama.cpp"]
    assert exact["kl"].minimum > 0
    assert exact["kl"].mean.value == pytest.approx(tool["kl"].mean.value, rel=0.02)
    assert exact["kl"].mean.value != tool["kl"].mean.value
    assert exact["same_top"].value == tool["same_top"].value
    # Normalising takes back the mass that the floor of 16 nats had added.
    assert exact["perplexity_p"].value > tool["perplexity_p"].value


def test_rule_by_hand():
    b = np.array([[-1.0, -0.5, -17.0], [-2.0, -16.0, -0.1]], np.float32)
    z = np.array([[1.0, 2.0, 0.0], [0.0, 5.0, 5.0]], np.float32)
    columns = llama_rule.compare_rows(b, z, np.array([1, 0]), normalised=False)
    log_q = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    expected = [
        np.exp(-1) * (-1 - log_q[0, 0]) + np.exp(-0.5) * (-0.5 - log_q[0, 1]),
        np.exp(-2) * (-2 - log_q[1, 0]) + np.exp(-0.1) * (-0.1 - log_q[1, 2]),  # -16 itself is left out
    ]
    np.testing.assert_allclose(columns["kl"], expected, rtol=1e-6)
    np.testing.assert_allclose(columns["log_prob_p"], [-0.5, -2.0])
    np.testing.assert_allclose(columns["log_prob_q"], [log_q[0, 1], log_q[1, 0]], rtol=1e-6)
    np.testing.assert_allclose(columns["delta_prob"], np.exp(columns["log_prob_q"]) - np.exp([-0.5, -2.0]), rtol=1e-6)
    assert columns["top1_p"].tolist() == [1, 2]
    assert columns["top1_q"].tolist() == [1, 1]  # the first of equal maxima
    assert tuple(columns) == llama_rule.COLUMNS
    stored = llama_rule.compare_rows(b, log_q, np.array([1, 0]), normalised=True)
    np.testing.assert_allclose(stored["kl"], columns["kl"], rtol=1e-5)


def test_rows_without_meaning_are_nan():
    b = np.zeros((3, 2), np.float32)
    z = np.array([[np.nan, 0], [-np.inf, -np.inf], [np.inf, 0]], np.float32)
    columns = llama_rule.compare_rows(b, z, np.zeros(3, np.int64), normalised=False)
    assert np.isnan(columns["kl"]).all()
    assert (columns["top1_q"] == -1).all()


def test_live_logits_as_candidate(real_files, tmp_path):
    """What the tool itself does: a base file against float32 logits, here any that differ from it by a constant."""
    source = open_source(real_files[0])
    np.save(tmp_path / "live.npy", source.read(0, 31) + np.arange(31, dtype=np.float32)[:, np.newaxis])
    summary = score(real_files[0], tmp_path / "live.npy", tmp_path / "out", kld_rule="llama.cpp")["live"]
    # The softmax takes away the excess mass of the stored row, which then shows as a divergence.
    rows = pq.read_table(tmp_path / "out" / "live")["kl"].to_numpy()
    mass = np.log(np.exp(source.read(0, 31).astype(np.float64)).sum(axis=1))
    np.testing.assert_allclose(rows, mass, rtol=0.01, atol=2e-6)
    assert summary["same_top"].value == 1


def test_rule_needs_a_llama_file_and_no_options_of_its_own(pair, real_files, tmp_path):
    with pytest.raises(InputError, match=r"needs a llama.cpp reference"):
        score(*pair, tmp_path / "out", kld_rule="llama.cpp")
    for options in ({"vocab_size": 5}, {"temperature": 2.0}, {"metrics": ["kl"]}):
        with pytest.raises(UsageError, match=r"llama.cpp rule"):
            score(*real_files, tmp_path / "out", kld_rule="llama.cpp", **options)
