"""The corpus of real stack files: where it is, how docker judges a file, and what became of each."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from meshpy.errors import DocumentError
from meshpy.inject import InjectOptions, inject, uninject

REPO = Path(__file__).resolve().parents[2]
NO_PORT = re.compile(r"nothing in the file shows which port `([^`]+)`")
VARIABLE = re.compile(r"\$\{?([_a-zA-Z][_a-zA-Z0-9]*)")
ENV_FILE = re.compile(r"open (\S+): no such file")
NEEDED = re.compile(r"required variable ([A-Za-z_0-9]+) is missing")


def corpus_folder() -> Path | None:
    folder = Path(os.environ.get("MESHPY_CORPUS", REPO.parent / "shared" / "corpus"))
    return folder if folder.is_dir() and any(folder.glob("*.yml")) else None


def docker_cli() -> str | None:
    return shutil.which("docker")


@dataclass(frozen=True)
class Judgement:
    accepted: bool
    message: str


@dataclass(frozen=True)
class Outcome:
    file: str
    verdict: str  # injected, refused, wrong, not-docker
    detail: str = ""


class Docker:
    """`docker stack config`: needs no engine. Missing env_files and variables are made up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env: dict[str, str] = {"PATH": os.environ["PATH"], "HOME": str(folder)}

    def judge(self, text: bytes) -> Judgement:
        (self.folder / "stack.yml").write_bytes(text)
        message = ""
        for _ in range(40):
            done = subprocess.run(
                ["docker", "stack", "config", "-c", "stack.yml"],
                cwd=self.folder,
                env=self.env,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            if done.returncode == 0:
                return Judgement(True, "")
            lines = done.stderr.strip().splitlines()
            message = lines[-1] if lines else ""
            if not self._make_up(done.stderr, text):
                break
        return Judgement(False, message)

    def _make_up(self, message: str, text: bytes) -> bool:
        if found := ENV_FILE.search(message):
            path = Path(found[1])
            if self.folder in path.parents and not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("")
                return True
        if (found := NEEDED.search(message)) and found[1] not in self.env:
            self.env[found[1]] = "1"
            return True
        sized = ("invalid size", "invalid syntax", "failed to cast", "expected type", "converting")
        if any(word in message for word in sized):
            new = {name for name in VARIABLE.findall(text.decode()) if name not in self.env}
            self.env.update(dict.fromkeys(new, "1"))
            return bool(new)
        return False


def outcome(path: Path, assume: bool) -> Outcome:
    """Inject one file, twice when ports are assumed, and let docker and uninject judge the result."""
    data = path.read_bytes()
    with tempfile.TemporaryDirectory() as scratch:
        docker = Docker(Path(scratch))
        original = docker.judge(data)
        if not original.accepted:
            return _not_docker(path, data, original)
        text = data.decode()
        options = InjectOptions()
        try:
            injected = inject(text, stack="corp", file=path.name, options=options)
        except DocumentError as error:
            unknown = {m[1]: "8080/http" for m in map(NO_PORT.search, str(error).splitlines()) if m}
            if not assume or not unknown:
                return Outcome(path.name, _refusal(error), str(error))
            options = InjectOptions(assume=unknown)
            try:
                injected = inject(text, stack="corp", file=path.name, options=options)
            except DocumentError as second:
                return Outcome(path.name, _refusal(second), str(second))
        result = docker.judge(injected.text.encode())
        if not result.accepted:
            return Outcome(path.name, "wrong", f"docker refuses the result: {result.message}")
        if inject(injected.text, stack="corp", file=path.name, options=options).text != injected.text:
            return Outcome(path.name, "wrong", "not idempotent")
        if uninject(injected.text, path.name).encode() != data:
            return Outcome(path.name, "wrong", "uninject gives something else back")
        return Outcome(path.name, "injected", "; ".join(injected.report.exempt))


def _refusal(error: DocumentError) -> str:
    """A refusal that tells neither place nor remedy is no help."""
    helps = all(problem.place.line and problem.instead for problem in error.problems)
    return "refused" if helps else "wrong"


def _not_docker(path: Path, data: bytes, judged: Judgement) -> Outcome:
    """What docker refuses, we must not accept in silence where we claim to know; it is counted apart."""
    try:
        inject(data.decode(), stack="corp", file=path.name)
    except DocumentError as error:
        return Outcome(path.name, "not-docker", f"docker: {judged.message} | we: {error.problems[0]}")
    return Outcome(path.name, "not-docker", f"docker: {judged.message} | we accept it")


def outcomes(folder: Path, assume: bool) -> Iterator[Outcome]:
    for path in sorted((*folder.glob("*.yml"), *folder.glob("*.yaml"))):
        yield outcome(path, assume)


def counts(found: list[Outcome]) -> Counter[str]:
    return Counter(item.verdict for item in found)
