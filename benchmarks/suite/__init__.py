"""The workloads of ``workloads`` for asv, which follows them from commit to commit."""

import sys
from pathlib import Path

# asv imports this folder alone; the workloads lie beside it
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
