"""Copy the knowledge base from its address in an object store to a folder, unless it is there."""

import os
import shutil
import sys
from pathlib import Path

import fsspec

folder = Path(sys.argv[1])
partial = folder.with_name("partial")
if not folder.exists():
    store, path = fsspec.url_to_fs(os.environ["REIMAGEN_RETRIEVER_KNOWLEDGE_BASE"])
    shutil.rmtree(partial, ignore_errors=True)
    store.get(f"{path}/", str(partial), recursive=True)
    partial.rename(folder)
