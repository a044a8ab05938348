import subprocess
import sys

_DEEP = """
import json
from reimagen_retriever.index.jvm import start_jvm
start_jvm()
try:
    json.loads("[" * 100_000)
except RecursionError:
    print("refused")
"""


def test_deeply_nested_data_is_an_error_in_the_thread_that_started_java() -> None:
    ended = subprocess.run([sys.executable, "-c", _DEEP], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "refused\n", "")
