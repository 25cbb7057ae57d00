"""The tables, the names, the signatures and the documentation agree with each other."""

import doctest
import inspect
import pickle
import re
import tomllib
from pathlib import Path

import pytest
from helpers import METRICS, NAMES

import kullback as kb
from kullback import comparison, divergences, entropies, families
from kullback._core import registry

PUBLIC = {definition.function_name: name for name, definition in registry.definitions().items()}
DIVERGENCES = (divergences, entropies, families)
OPTIONS = ["axis", "input", "temperature", "vocab_size", "nan_policy", "threads"]


def test_native_and_python_tables_hold_the_same_names(native):
    from kullback._core import _native

    assert sorted(_native.registry()) == sorted(registry.definitions())


def test_stub_and_native_module_hold_the_same_names(native):
    from kullback._core import _native

    stub = (Path(kb.__file__).parent / "_core" / "_native.pyi").read_text()
    declared = set(re.findall(r"^(?:def|class) (\w+)|^(__version__)", stub, re.MULTILINE))
    names = {name for match in declared for name in match if name}
    assert names == {name for name in dir(_native) if not name.startswith("_")} | {"__version__"}


def test_every_definition_is_public():
    public = {name for name in PUBLIC if not name.startswith("_")}
    assert public == set(divergences.__all__) - set(families.__all__)
    assert set(divergences.__all__) <= set(kb.__all__)
    assert [name for name in PUBLIC if name.startswith("_")] == ["_reverse_kl"]


@pytest.mark.parametrize("module", [kb, divergences, entropies, families, comparison])
def test_all_lists_what_is_defined(module):
    assert list(module.__all__) == sorted(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert name in dir(module)
    if module is not kb:
        own = [module.__name__] if module is not divergences else [m.__name__ for m in DIVERGENCES]
        defined = {n for n, value in vars(module).items() if getattr(value, "__module__", None) in own}
        assert {name for name in defined if not name.startswith("_") and name != "Block"} == set(module.__all__)


def test_names_in_order():
    assert kb.divergence_names() == [
        "kl",
        "reverse_kl",
        "js",
        "js_distance",
        "skew_kl",
        "jeffreys",
        "total_variation",
        "squared_hellinger",
        "hellinger",
        "chi2",
        "neyman_chi2",
        "triangular_discrimination",
        "alpha",
        "renyi",
        "bhattacharyya",
        "cauchy_schwarz",
        "fisher_rao",
        "acceptance_rate",
        "cross_entropy",
    ]
    assert [name.partition(":")[0] for name in METRICS] == kb.divergence_names()
    assert {name.partition(":")[0] for name in NAMES} == set(registry.definitions())


@pytest.mark.parametrize("name", sorted(PUBLIC.keys() - {"_reverse_kl"}))
def test_signatures(name):
    function = getattr(kb, name)
    definition = registry.definitions()[PUBLIC[name]]
    parameters = inspect.signature(function).parameters
    own = [] if definition.parameter is None else [definition.parameter.name]
    assert list(parameters) == ["p", "q"][: definition.sides] + own + OPTIONS
    kinds = [parameter.kind for parameter in parameters.values()]
    assert set(kinds[: definition.sides]) == {inspect.Parameter.POSITIONAL_ONLY}
    assert set(kinds[definition.sides :]) == {inspect.Parameter.KEYWORD_ONLY}
    protocol = registry.PairFunction if definition.sides == 2 else registry.RowFunction
    typed = inspect.signature(definition.parameter.call if definition.parameter else protocol.__call__)
    assert list(typed.parameters.values())[1:] == list(parameters.values())
    assert function.__name__ == function.__qualname__ == name
    assert function.__module__ == f"kullback.{'divergences' if definition.sides == 2 else 'entropies'}"
    assert pickle.loads(pickle.dumps(function)) is function


@pytest.mark.parametrize("name", divergences.__all__)
def test_docstrings_are_complete(name):
    text = inspect.getdoc(getattr(kb, name))
    sections = re.findall(r"^(\w+)\n-+$", text, re.MULTILINE)
    assert sections == ["Parameters", "Returns", "Raises", "References", "Examples"]
    assert ".. math::" in text or ":math:" in text
    if name in PUBLIC:
        assert "nats" in text
        parameter = registry.definitions()[PUBLIC[name]].parameter
        assert parameter is None or f"\n{parameter.name} : float" in text


RECORDS = (kb.Comparison, kb.SampledKL)
DOCUMENTED = [getattr(kb, name) for name in kb.__all__ if name != "score"] + [kb]


@pytest.mark.parametrize("thing", DOCUMENTED, ids=lambda thing: thing.__name__)
def test_examples(backend, thing):
    # The example of the package itself is its docstring only; its members are listed one by one.
    text = inspect.getdoc(thing)
    examples = doctest.DocTestParser().get_doctest(text, {}, thing.__name__, None, 0)
    assert examples.examples or thing in RECORDS
    runner = doctest.DocTestRunner(optionflags=doctest.FAIL_FAST)
    output = []
    runner.run(examples, out=output.append)
    assert runner.failures == 0, "".join(output)


def test_one_version():
    cargo = Path(__file__).parents[1] / "Cargo.toml"
    assert kb.__version__ == tomllib.loads(cargo.read_text())["package"]["version"]
    assert kb.info()["version"] == kb.__version__


def test_package_is_typed():
    assert (Path(kb.__file__).parent / "py.typed").exists()


def test_unknown_attribute():
    with pytest.raises(AttributeError, match="module 'kullback' has no attribute 'kl_div'"):
        _ = kb.kl_div


def test_a_name_is_defined_once():
    with pytest.raises(ValueError, match="the name 'kl' is defined twice"):
        registry.pair_definition("kl")(lambda pair: pair.total(abs))
