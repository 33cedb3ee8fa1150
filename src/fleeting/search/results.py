"""What a search has found: a summary, a table of the trials, ``best.toml`` and pictures."""

from __future__ import annotations

import csv
import io
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fleeting import config, files
from fleeting.errors import UserError
from fleeting.search import pictures, spaces, study
from fleeting.search.objective import Plan


def write(folder: Path, plan: Plan) -> dict[str, Any]:
    """Writes ``trials.csv``, ``best.toml`` and the pictures, and sums up.

    Returns:
        ``folder, metric, fold, seed, inner, trials: {all, done, failed, lost, running}``, ``best: {number, score,
        values}``, ``importances: {name: share}`` (fANOVA over the trials; empty where they do not tell), ``files``.

    Raises:
        UserError: no trial has a score, or a file cannot be written.
    """
    board = study.Board(folder, plan)
    trials = board.study.get_trials(deepcopy=False)
    done = [trial for trial in trials if trial.state.name == "COMPLETE"]
    if not done:
        raise UserError(f"{folder}: want a trial with a score, got none yet; run the same command again")
    best = max(done, key=lambda trial: (trial.value, -trial.number))  # of equal ones the first
    found = study.values(plan, best.params)
    # scores that are all the same, or one alone, have no variance to share out; Optuna then deals it out evenly
    importances = _importances(board) if len({trial.value for trial in done}) > 1 else {}
    _write_best(folder / "best.toml", plan, best, found)
    _write_table(folder / "trials.csv", plan, trials)
    drawn = pictures.draw(folder, plan, done, importances)
    settings = plan.searched.settings
    return {
        "folder": str(folder),
        "metric": settings.metric,
        "fold": plan.fold,
        "seed": plan.seed,
        "inner": settings.inner,
        "trials": {
            "all": settings.trials,
            "done": len(done),
            "failed": len(board.finished()) - len(done),
            "lost": len(board.lost()),
            "running": sum(trial.state.name == "RUNNING" for trial in trials),
        },
        "best": {"number": best.number, "score": best.value, "values": found},
        "importances": importances,
        "files": [str(path) for path in (folder / "best.toml", folder / "trials.csv", *drawn)],
    }


def _write_best(path: Path, plan: Plan, best: Any, found: Mapping[str, Any]) -> None:
    resolved = config.resolve(spaces.assigned(plan.tables, found), str(path))
    named = resolved.model_copy(update={"name": f"{resolved.name}-best"})
    settings = plan.searched.settings
    head = (
        f"# trial {best.number} of a search: {settings.metric} {best.value:.4f}, pooled over {settings.inner} groups\n"
        f"# of subjects inside the training part of fold {plan.fold}, seed {plan.seed}. The test part of that fold\n"
        "# was not touched; those of other folds or seeds, if there are any, hold clips that the search knows.\n"
    )
    head += "".join(f"# {name} = {json.dumps(value)}\n" for name, value in sorted(found.items()))
    files.write_text(path, head + config.to_toml(named))


def _write_table(path: Path, plan: Plan, trials: list[Any]) -> None:
    names = list(plan.searched.spaces)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["number", "state", plan.searched.settings.metric, "seconds", *names, "note"])
    for trial in trials:
        found = study.values(plan, trial.params)
        took = trial.duration.total_seconds() if trial.duration is not None else ""
        score = "" if trial.value is None else f"{trial.value:.6g}"
        given = [json.dumps(found[name]) if name in found else "" for name in names]
        writer.writerow([trial.number, _state(trial), score, took, *given, _note(trial)])
    files.write_text(path, text.getvalue())


def _state(trial: Any) -> str:
    lost = trial.state.name == "FAIL" and not study.failure(trial)
    return "lost" if lost else {"COMPLETE": "done", "FAIL": "failed"}.get(trial.state.name, trial.state.name.lower())


def _note(trial: Any) -> str:
    if trial.state.name == "FAIL" and study.failure(trial):
        return study.failure(trial)
    if "instead_of" in trial.user_attrs:
        return f"instead of {trial.user_attrs['instead_of']}, whose worker died"
    return ""


def _importances(board: study.Board) -> dict[str, float]:
    """Share of the score's variance that each name explains (Hutter et al., ICML 2014), the largest first."""
    evaluator = board.package.importance.FanovaImportanceEvaluator(seed=0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = board.package.importance.get_param_importances(board.study, evaluator=evaluator)
    except (ValueError, RuntimeError):  # too few trials
        return {}
    shares = {name: float(share) for name, share in found.items()}
    return shares if all(share == share for share in shares.values()) else {}
