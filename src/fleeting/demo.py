"""The demonstration: a corpus of drawn faces, two models, leave one subject out, and the report page."""

from __future__ import annotations

from pathlib import Path

from fleeting import config, experiment, plugins, report
from fleeting.seeing import Progress

_TABLES = (
    {"name": "demo-flow-svm", "datasets": ["simulated"], "model": {"name": "flow_svm"}},
    {
        "name": "demo-ststnet",
        "datasets": ["simulated"],
        "inner": 3,
        "model": {"name": "ststnet"},
        "recipe": {"epochs": 60, "batch": 64, "lr": 1e-3},
    },
)


def run(out: Path, jobs: int, progress: Progress) -> Path:
    """Writes ``data``, ``runs`` and ``report.html`` below `out`; what is already done is kept.

    The corpus is `simulated`: drawn faces with known flow. Everything from its frames on is the way of a real corpus:
    face mesh, alignment, flow, training, report. The page says that no person was recorded.

    Returns:
        The page.

    Raises:
        UserError: a fold failed, or something cannot be written.
    """
    root = out / "data"
    plugins.load("datasets", "simulated").write(root, None, lambda done, of: progress("drawing clips", done, of), jobs)
    folders = []
    for tables in _TABLES:
        resolved = config.resolve(tables, "demo")
        folder = out / "runs" / resolved.name
        experiment.run(
            resolved,
            folder,
            jobs,
            roots={"simulated": root},
            progress=lambda what, done, total, name=resolved.name: progress(f"{name}: {what}", done, total),  # type: ignore[misc]
        )
        folders.append(folder)
    page = out / "report.html"
    report.write(folders, page)
    return page
