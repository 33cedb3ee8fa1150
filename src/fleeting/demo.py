"""The demonstration: a made-up corpus, two models, leave one subject out, and the report page."""

from __future__ import annotations

from pathlib import Path

from fleeting import config, experiment, plugins, report
from fleeting.experiment import Progress

_TABLES = (
    {"name": "demo-flow-svm", "model": {"name": "flow_svm"}},
    {
        "name": "demo-ststnet",
        "inner": 3,
        "model": {"name": "ststnet"},
        "recipe": {"epochs": 60, "batch": 64, "lr": 1e-3},
    },
)


def run(out: Path, jobs: int, progress: Progress) -> Path:
    """Writes ``data``, ``runs`` and ``report.html`` below `out`; what is already done is kept.

    The corpus is the stand-in of `megc2019_flow`: made-up flow in the published layout. The page says so.

    Returns:
        The page.

    Raises:
        UserError: a fold failed, or something cannot be written.
    """
    root = out / "data"
    dataset = plugins.load("datasets", "megc2019_flow")
    if not dataset.is_standin(root):
        dataset.write_standin(root)
    folders = []
    for tables in _TABLES:
        resolved = config.resolve(tables, "demo")
        folder = out / "runs" / resolved.name
        experiment.run(
            resolved,
            folder,
            jobs,
            roots={"megc2019_flow": root},
            progress=lambda what, done, total, name=resolved.name: progress(f"{name}: {what}", done, total),  # type: ignore[misc]
        )
        folders.append(folder)
    page = out / "report.html"
    report.write(folders, page)
    return page
