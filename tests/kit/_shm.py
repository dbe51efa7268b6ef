"""The System V shared memory that a killed PostgreSQL leaves; a machine has room for 4,096."""

import shutil
import subprocess
from pathlib import Path


def remove_shared_memory(data: Path) -> None:
    """Remove the segment of a server that was killed, as its next start on ``data`` would."""
    try:
        segment = (data / "postmaster.pid").read_text().splitlines()[6].split()[1]
    except (FileNotFoundError, IndexError):
        return
    if ipcrm := shutil.which("ipcrm"):
        subprocess.run([ipcrm, "-m", segment], capture_output=True, check=False)
