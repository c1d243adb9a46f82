"""Without what only Unix has, every module can be imported, and files and signals still work.

Windows itself is simulated: its missing modules and names are taken away on this system.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path, PureWindowsPath

import pytest

from ptv2_cli.config.schema import names_folder

WINDOWS = """
import importlib, os, pkgutil, signal, sys
from pathlib import Path

# Other packages are loaded first: they look at sys.platform and find what this system has.
import datasets, evaluate, filelock, matplotlib.figure, openpyxl, psutil, rouge_score, sacrebleu
import ray, sklearn, transformers
import torch.utils.data, torchao.quantization
for name in ("fcntl", "grp", "pty", "pwd", "resource", "termios", "tty"):
    sys.modules[name] = None
for name in (
    "O_DIRECTORY O_NOFOLLOW fork geteuid getpgid getuid killpg mkfifo sched_getaffinity setsid "
    "statvfs sync sysconf uname"
).split():
    delattr(os, name)
for name in "SIGALRM SIGHUP SIGKILL SIGQUIT SIGUSR1 SIGUSR2 alarm setitimer".split():
    delattr(signal, name)

import ptv2_cli
names = [module.name for module in pkgutil.walk_packages(ptv2_cli.__path__, "ptv2_cli.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)

from ptv2_cli.files import sync_folder, no_link, write_atomic
folder = Path(sys.argv[1])
for text in (b"one", b"two"):
    write_atomic(folder / "file", text)
assert (folder / "file").read_bytes() == b"two" and sync_folder(folder)
with open(folder / "log", "a", opener=no_link) as file:
    file.write("line")

from ptv2_cli.runs.interrupts import Interrupts
with Interrupts() as interrupts:
    signal.raise_signal(signal.SIGTERM)
    assert interrupts.signum == signal.SIGTERM

from ptv2_cli.runs.inventory import runs_in
from ptv2_cli.runs.lock import locked
with locked(folder) as alone:
    assert alone and not runs_in(folder)

from ptv2_cli.setup.doctor import cores, threads
assert cores() >= 1 and threads().name == "threads"
print(len(names), "modules")
"""


def test_without_the_names_that_windows_lacks(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WINDOWS, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-2]) > 150


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("/models/bert", True),
        ("package:models/bert", True),
        ("C:\\models\\bert", True),
        ("C:/models/bert", True),
        ("roberta-large", False),
        ("FacebookAI/roberta-large", False),
    ],
)
def test_folders_of_windows_are_known(
    name: str, folder: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptv2_cli.config.schema.Path", PureWindowsPath)
    assert names_folder(name) == folder
