"""Real stack files: injected into what docker accepts and can be undone, or refused with what to do."""

import pytest

from meshpy.inject import only_sidecars
from tests.helpers.corpus import Docker, corpus_folder, counts, docker_cli, outcome
from tests.helpers.stacks import injected
from tests.unit.inject.test_editing import VARIANTS
from tests.unit.inject.test_topology import THREE

CORPUS = corpus_folder()
needs_docker = pytest.mark.skipif(docker_cli() is None, reason="no docker client on this machine")


@needs_docker
@pytest.mark.skipif(CORPUS is None, reason="no corpus: set MESHPY_CORPUS to a folder of stack files")
def test_no_real_file_is_rewritten_wrongly(record_property) -> None:
    """Ports that a file does not show are assumed, so that nearly all files are rewritten."""
    found = [outcome(path, assume=True) for path in sorted(CORPUS.glob("*.yml"))]
    record_property("corpus", dict(counts(found)))
    print(dict(counts(found)))
    assert [(item.file, item.detail) for item in found if item.verdict == "wrong"] == []
    assert any(item.verdict == "injected" for item in found)
    accepted_by_us_only = [item.file for item in found if item.detail.endswith("we accept it")]
    assert accepted_by_us_only == []


@needs_docker
@pytest.mark.parametrize("name", VARIANTS)
def test_docker_accepts_what_is_written_into_files_of_every_shape(name: str, tmp_path) -> None:
    docker = Docker(tmp_path)
    assert docker.judge(VARIANTS[name].encode()).message == ""
    assert docker.judge(injected(VARIANTS[name]).text.encode()).message == ""


@needs_docker
def test_docker_accepts_the_sidecars_alone(tmp_path) -> None:
    docker = Docker(tmp_path)
    assert docker.judge(only_sidecars(injected(THREE).text).encode()).message == ""
    assert docker.judge(injected(THREE, endpoint_mode="dnsrr", encrypted=False).text.encode()).message == ""
