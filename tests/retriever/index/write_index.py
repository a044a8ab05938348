"""Write the indexes in lucene/, with the Lucene of the Python that runs this: `FOLDER ID...`, for pairs that are added.

python3.11 -m tests.retriever.index.write_index tests/retriever/index/lucene/9.9.1 apple boat
python3.13 -m tests.retriever.index.write_index tests/retriever/index/lucene/10.5.0 apple boat
cp -r tests/retriever/index/lucene/9.9.1 tests/retriever/index/lucene/9.9.1-10.5.0
python3.13 -m tests.retriever.index.write_index tests/retriever/index/lucene/9.9.1-10.5.0 cloud
"""

import sys
from pathlib import Path

from reimagen_retriever.index.writer import IndexWriter
from reimagen_retriever.knowledge_base.pair import StoredPair
from tests.retriever.index.stored import stored


def pair(identifier: str) -> StoredPair:
    return stored(identifier, f"a kea beside {identifier}")


def main(folder: Path, identifiers: list[str]) -> None:
    with IndexWriter(folder) as writer:
        for identifier in identifiers:
            writer.put(pair(identifier))
        writer.commit({})
    (folder / "write.lock").unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
