"""The tables, the names, the signatures and the documentation agree with each other."""

import doctest
import inspect
import pickle
import re
import tomllib
from pathlib import Path

import pytest
from helpers import NAMES

import kullback as kb
from kullback import comparison, divergences
from kullback._core import registry

PUBLIC = {definition.function_name: name for name, definition in registry.definitions().items()}
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
    assert public == set(divergences.__all__)
    assert set(divergences.__all__) <= set(kb.__all__)
    assert [name for name in PUBLIC if name.startswith("_")] == ["_reverse_kl"]


@pytest.mark.parametrize("module", [kb, divergences, comparison])
def test_all_lists_what_is_defined(module):
    assert list(module.__all__) == sorted(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert name in dir(module)
    if module is not kb:
        defined = {n for n, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__}
        assert {name for name in defined if not name.startswith("_") and name != "Block"} == set(module.__all__)


def test_names_in_order():
    assert kb.divergence_names() == [
        "kl",
        "reverse_kl",
        "js",
        "js_distance",
        "jeffreys",
        "total_variation",
        "squared_hellinger",
        "hellinger",
        "cross_entropy",
    ]
    assert [*kb.divergence_names(), "entropy"] == NAMES


@pytest.mark.parametrize("name", divergences.__all__)
def test_signatures(name):
    function = getattr(kb, name)
    definition = registry.definitions()[PUBLIC[name]]
    parameters = inspect.signature(function).parameters
    assert list(parameters) == ["p", "q"][: definition.sides] + OPTIONS
    kinds = [parameter.kind for parameter in parameters.values()]
    assert set(kinds[: definition.sides]) == {inspect.Parameter.POSITIONAL_ONLY}
    assert set(kinds[definition.sides :]) == {inspect.Parameter.KEYWORD_ONLY}
    protocol = registry.PairFunction if definition.sides == 2 else registry.RowFunction
    typed = inspect.signature(protocol.__call__)
    assert list(typed.parameters.values())[1:] == list(parameters.values())
    assert function.__name__ == function.__qualname__ == name
    assert function.__module__ == "kullback.divergences"
    assert pickle.loads(pickle.dumps(function)) is function


@pytest.mark.parametrize("name", divergences.__all__)
def test_docstrings_are_complete(name):
    text = inspect.getdoc(getattr(kb, name))
    sections = re.findall(r"^(\w+)\n-+$", text, re.MULTILINE)
    assert sections == ["Parameters", "Returns", "Raises", "References", "Examples"]
    assert ".. math::" in text or ":math:" in text
    assert "nats" in text


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
