"""What becomes of every file of the corpus: `python tests/bench/corpus.py [--assume] [-v]`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.helpers.corpus import corpus_folder, counts, docker_cli, outcome


def main() -> int:
    folder = corpus_folder()
    if folder is None or docker_cli() is None:
        print("needs the docker client and a corpus (MESHPY_CORPUS)")
        return 3
    found = [outcome(path, "--assume" in sys.argv) for path in sorted(folder.glob("*.yml"))]
    for item in found:
        if item.verdict == "wrong" or "-v" in sys.argv:
            print(f"{item.verdict:10} {item.file}: {item.detail[:300]}")
    print(", ".join(f"{verdict} {count}" for verdict, count in sorted(counts(found).items())))
    return 1 if counts(found)["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
