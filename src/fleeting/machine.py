"""What a run was made with: package versions, the processor, the commit."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import fleeting


def versions() -> dict[str, str]:
    packages = ("torch", "numpy", "opencv-contrib-python-headless", "scikit-learn")
    return {"fleeting": fleeting.__version__, "python": platform.python_version()} | {p: version(p) for p in packages}


def processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def commit() -> str:
    """The commit of a source checkout, "" for an installed package."""
    try:
        folder = Path(__file__).parent
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
