"""No file, however damaged, makes a reader fail in any other way than by one sentence: .ci/fuzz.py says how that is tried."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

RUNS = {"pickle": 20_000, "weights": 20_000, "caffe": 10_000, "onnx": 10_000, "zip": 20_000, "csv": 10_000,
        "photo": 20_000, "manifest": 10_000, "kept": 2_000}


@pytest.mark.parametrize("reader", RUNS)
def test_a_reader_reads_or_refuses_every_mutated_file(reader, tmp_path):
    run = subprocess.run([sys.executable, Path(__file__).with_name("fuzz.py"), reader, str(RUNS[reader]), "1"], cwd=tmp_path,
                         capture_output=True, text=True, timeout=600)
    print(*re.findall("^(stat::.*|Done .*)", run.stderr, re.MULTILINE), sep="\n")
    assert run.returncode == 0, run.stderr[-3000:]
    assert int(re.search(r"executed_units: (\d+)", run.stderr)[1]) >= RUNS[reader]
