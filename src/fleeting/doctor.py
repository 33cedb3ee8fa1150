"""What is wrong with a corpus on disk, a split or a run: row by row, and in counts against the published ones.

Nothing is changed or repaired. A `Report` is data; `text` is its form for the terminal, `plain` that for ``--json``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from fleeting import dealing, plugins, runs, video
from fleeting.errors import UserError, ranges, spans
from fleeting.records import Clip, Fold, Info

KINDS = {
    "problem": "rows that cannot be used",
    "gap": "clips with frames missing inside",
    "picture": "pictures that cannot be read",
    "no_apex": "clips without an apex",
    "still": "clips whose apex is their onset: no motion up to the apex",
    "dropped": "clips that were dropped",
    "failed": "tasks that failed",
    "unfinished": "tasks that are not done",
    "overlap": "subjects in several parts of a split",
    "tested_twice": "clips that are tested twice in a seed",
    "list": "the list of clips",
}
"""Kinds of findings -> what they are called."""
_NOTES = ("no_apex", "still", "dropped", "unfinished")  # worth knowing, but nothing is broken
_SHOWN = 12  # findings of a kind in `text`; `plain` has all
_GROUPED = 4  # keys that are named where many findings say the same


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        kind: one of `KINDS`.
        key: of the clip, the subject or the task.
        text: what is the matter.
    """

    kind: str
    key: str
    text: str


@dataclass(frozen=True)
class Count:
    """How many there are of something, and how many there should be.

    Attributes:
        corpus: or one of its parts, "dfme, part A".
        what: an emotion, "clips" or "subjects".
        published: None where nothing is.
        found: in the sheet.
        usable: of these, without a problem.
    """

    corpus: str
    what: str
    published: int | None
    found: int
    usable: int


@dataclass(frozen=True)
class Report:
    """What an examination found.

    Attributes:
        name: of the corpus or the run.
        root: its folder.
        standin: made-up data: its counts say nothing.
        notices: what should be known, one line each (which sheet was read, folders that no row names).
        counts: against the published ones; empty for a run.
        findings: everything, in the order of the kinds.
    """

    name: str
    root: Path
    standin: bool
    notices: tuple[str, ...]
    counts: tuple[Count, ...]
    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        """Whether all is there and as published."""
        broken = any(finding.kind not in _NOTES for finding in self.findings)
        return not broken and (self.standin or not any(_differs(count) for count in self.counts))


def examine(dataset: str, root: Path, deep: bool = False) -> Report:
    """A corpus: every row of its sheet against its pictures, and the counts against the published ones.

    Args:
        dataset: name of the loader.
        root: the corpus' folder.
        deep: also decodes the first picture, the apex and the last picture of each clip.

    Raises:
        UserError: no such loader, or the corpus cannot be read at all (no sheet, another corpus).
    """
    module = plugins.load("datasets", dataset)
    clips: list[Clip] = module.load(root)
    notices: list[str] = getattr(module, "notices", lambda root: [])(root)
    standin = bool(getattr(module, "is_standin", lambda root: False)(root))
    if standin:
        notices = ["made-up data: its counts are not those of the corpus", *notices]
    findings = [finding for clip in clips for finding in _of_clip(clip, deep)]
    return Report(dataset, root, standin, tuple(notices), tuple(_counts(module, clips)), _ordered(findings))


def overlap(folds: Iterable[Fold], clips: Iterable[Clip]) -> tuple[Finding, ...]:
    """The subjects that are in more than one part of a fold.

    Who trains (or validates) and is tested makes a score say little about new people; who trains and validates makes
    early stopping see a known face.

    Args:
        folds: of one seed.
        clips: those that the folds name.

    Returns:
        One finding a fold and subject, `key` is ``dataset/subject``.
    """
    group = {clip.key: clip.group for clip in clips}
    found = []
    for fold in folds:
        trained, valid, tested = (Counter(group[key] for key in keys) for keys in (fold.train, fold.valid, fold.tested))
        for name in sorted({*trained, *valid, *tested}):
            known, chose, asked = trained[name], valid[name], tested[name]
            if asked and known + chose:
                text = f"fold {fold.name}: {known + chose} of its clips train or validate, {asked} are tested"
                found.append(Finding("overlap", name, text))
            elif known and chose:
                text = f"fold {fold.name}: {known} of its clips train, {chose} validate"
                found.append(Finding("overlap", name, text))
    return tuple(found)


def refuse_overlap(folds: Sequence[Fold], clips: Sequence[Clip]) -> None:
    """What holds for every split that does not ask for the contrary by name.

    Raises:
        UserError: a subject is in more than one part of a fold.
    """
    found = overlap(folds, clips)
    if found:
        raise UserError(
            f"want no subject in two parts of a fold, got {len(found)} such, the first {found[0].key} "
            f"({found[0].text}); such scores say little about new people: correct the protocol, or, where it has the "
            "option, ask for it with protocol.subject_overlap = true"
        )


def examine_split(
    name: str, folds: Mapping[int, Sequence[Fold]], clips: Sequence[Clip], labels: Mapping[str, str], standin: bool
) -> Report:
    """An experiment's split before anything is run: who is on both sides, and how many clips of a class each part has.

    Args:
        name: of the experiment.
        folds: seed -> folds.
        clips: those that have a class.
        labels: key -> class word.
        standin: made-up data.
    """
    subjects = {clip.group for clip in clips}
    notices = [f"{len(clips)} clips of {len(subjects)} subjects, {_many(folds)}", *_parts(folds, labels)]
    if standin:
        notices.append("made-up data")
    found = {seed: overlap(of_seed, clips) for seed, of_seed in folds.items()}
    several = len(folds) > 1
    findings = [
        Finding(one.kind, one.key, f"seed {seed}, {one.text}" if several else one.text)
        for seed, listed in found.items()
        for one in listed
    ]
    return Report(name, Path("its split"), standin, tuple(notices), (), _ordered(findings))


def _many(folds: Mapping[int, Sequence[Fold]]) -> str:
    count = max(len(of_seed) for of_seed in folds.values())
    return f"{count} fold{'s' if count > 1 else ''} a seed, seeds {', '.join(map(str, folds))}"


def _parts(folds: Mapping[int, Sequence[Fold]], labels: Mapping[str, str]) -> Iterator[str]:
    """Clips of each class in the parts of a single fold (of the first seed); of many folds it would be a long list."""
    first = next(iter(folds.values()))
    if len(first) > 1:
        return
    for part, keys in (("train", first[0].train), ("valid", first[0].valid), *first[0].test.items()):
        counts = Counter(labels[key] for key in keys)
        said = ", ".join(f"{word} {counts[word]}" for word in dict.fromkeys(labels.values()))
        yield f"part {part}: {len(keys)} clips ({said})"


def examine_run(folder: Path) -> Report:
    """A run: what was dropped and why, what failed, who is on both sides, and whether its list of clips was changed.

    Raises:
        UserError: the folder is no run.
    """
    run = runs.Run(folder)
    counts = run.header["counts"]
    findings = [Finding("dropped", row["key"], f"{row['stage']}: {row['reason']}") for row in _dropped(run)]
    findings += [Finding("failed", task, reason) for task, reason in run.failed().items()]
    findings += [*_unfinished(run), *_overlap_of_run(run), *_tested_twice(run), *_list_of_run(run)]
    notices = [
        f"{counts['clips']} clips of {counts['subjects']} subjects in {len(run.classes)} classes, "
        f"{len(run.done())} of {counts['tasks']} tasks done"
    ]
    if run.header["standin"]:
        notices.append(f"made-up data: {', '.join(run.header['standin'])}")
    return Report(run.name, folder, bool(run.header["standin"]), tuple(notices), (), _ordered(findings))


def text(report: Report) -> str:
    """For the terminal. Findings that say the same are put together; of each kind the first few are shown."""
    verdict = "nothing is wrong" if report.sound else "something is wrong, see below"
    lines = [f"{report.name} in {report.root}: {verdict}", *(f"  {notice}" for notice in report.notices)]
    for corpus in dict.fromkeys(count.corpus for count in report.counts):
        lines += ["", *_table(corpus, [count for count in report.counts if count.corpus == corpus], report.standin)]
    for kind, title in KINDS.items():
        found = [finding for finding in report.findings if finding.kind == kind]
        if found:
            lines += ["", f"{title} ({len(found)})", *_listed(found)]
    return "\n".join(lines) + "\n"


def plain(report: Report) -> dict[str, Any]:
    """``name, root, sound, standin, notices, counts, findings`` as dictionaries, lists, text and numbers."""
    return {
        "name": report.name,
        "root": str(report.root),
        "sound": report.sound,
        "standin": report.standin,
        "notices": list(report.notices),
        "counts": [asdict(count) for count in report.counts],
        "findings": [asdict(finding) for finding in report.findings],
    }


def _of_clip(clip: Clip, deep: bool) -> Iterator[Finding]:
    if clip.problem:
        yield Finding("problem", clip.key, clip.problem)
        return
    missing = _gaps(clip.frames) if isinstance(clip.frames, tuple) else []
    if missing:
        yield Finding("gap", clip.key, f"want every frame, found no {ranges(spans(missing))}; complete the corpus")
    if clip.apex is None:
        yield Finding("no_apex", clip.key, "the corpus names none; use a spotter")
    elif clip.apex == clip.onset:
        yield Finding("still", clip.key, "the sheet says so")
    if deep and clip.frames is not None:
        yield from (Finding("picture", clip.key, complaint) for complaint in _unreadable(clip))


def _gaps(frames: Sequence[Path]) -> list[int]:
    """File numbers that are missing between the first and the last, where the names end in one."""
    digits = [re.findall(r"\d+", path.stem) for path in frames]
    numbers = [int(found[-1]) for found in digits if found]
    if len(numbers) < len(frames) or not numbers:
        return []
    return sorted(set(range(min(numbers), max(numbers))) - set(numbers))


def _unreadable(clip: Clip) -> Iterator[str]:
    """Complaints about the first frame, the apex and the last frame, each read as the other stages read it."""
    try:
        with video.open(clip) as frames:
            yield from frames.notices
            for place in dict.fromkeys((0, clip.apex or 0, len(frames) - 1)):
                try:
                    _ = frames[place]
                except UserError as error:
                    yield str(error)
    except UserError as error:
        yield str(error)


def _counts(module: ModuleType, clips: Sequence[Clip]) -> Iterator[Count]:
    info: Info = module.INFO
    for corpus, published in info.counts.items():
        members = [clip for clip in clips if clip.dataset == corpus]
        yield from _by_emotion(corpus, published, members)
        found, usable = ({clip.subject for clip in some} for some in (members, _usable(members)))
        yield Count(corpus, "subjects", info.subjects[corpus], len(found), len(usable))
        for part, of_part in getattr(module, "PARTS", {}).items():
            yield from _by_emotion(f"{corpus}, part {part}", of_part, [clip for clip in members if clip.part == part])


def _by_emotion(corpus: str, published: Mapping[str, int], clips: Sequence[Clip]) -> Iterator[Count]:
    """Words are compared in lower case, as the protocols do, and shown as they are published."""
    found, usable = (
        Counter((clip.emotion or "no emotion").lower() for clip in some) for some in (clips, _usable(clips))
    )
    for word, number in published.items():
        yield Count(corpus, word, number, found[word.lower()], usable[word.lower()])
    for word in sorted(found.keys() - {word.lower() for word in published}):
        yield Count(corpus, word, None, found[word], usable[word])
    yield Count(corpus, "clips", sum(published.values()), len(clips), len(_usable(clips)))


def _usable(clips: Iterable[Clip]) -> list[Clip]:
    return [clip for clip in clips if not clip.problem]


def _differs(count: Count) -> bool:
    return count.found != count.published


def _dropped(run: runs.Run) -> list[Mapping[str, str]]:
    return list(run.header.get("dropped", ()))


def _unfinished(run: runs.Run) -> Iterator[Finding]:
    ended = run.done() | run.failed().keys()
    inner = int(run.header["experiment"].get("inner", 0))
    names = (runs.task_name(fold, seed, part) for seed, fold in run.folds for part in (None, *range(inner)))
    yield from (Finding("unfinished", name, "run the same command again") for name in names if name not in ended)


def _overlap_of_run(run: runs.Run) -> Iterator[Finding]:
    """A run keeps what each fold tests: who is tested only in part is on both sides."""
    for one in dealing.partly(run.clips, run.folds):
        text = f"fold {one.fold}, seed {one.seed}: {one.tested} of its {one.clips} clips are tested"
        yield Finding("overlap", one.subject, text)


def _tested_twice(run: runs.Run) -> Iterator[Finding]:
    times = Counter((seed, key) for (seed, _), parts in run.folds.items() for keys in parts.values() for key in keys)
    for (seed, key), count in sorted(times.items()):
        if count > 1:
            yield Finding("tested_twice", key, f"{count} times in seed {seed}; correct the protocol")


def _list_of_run(run: runs.Run) -> Iterator[Finding]:
    """``clips.csv`` against the checksum in ``run.toml``, and against what the folds test."""
    wanted, got = run.header.get("clips_sha256"), run.clips_sha256
    if wanted != got:
        text = f"want SHA-256 {str(wanted)[:12]}..., got {got[:12]}...; it was changed after the run began, run again"
        yield Finding("list", "clips.csv", text)
    tested = {key for parts in run.folds.values() for keys in parts.values() for key in keys}
    for key in sorted(tested - run.clips.keys()):
        yield Finding("list", key, "tested, but not in clips.csv; run again")


def _ordered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    kinds = list(KINDS)
    return tuple(sorted(findings, key=lambda finding: kinds.index(finding.kind)))


def _table(corpus: str, counts: Sequence[Count], standin: bool) -> Iterator[str]:
    width = max(len(corpus), *(len(count.what) for count in counts))
    yield f"{corpus:{width}}  published  sheet  usable"
    for count in counts:
        published = "" if count.published is None else str(count.published)
        off = count.found - (count.published or 0)
        mark = "" if standin or not off else f"  {off:+d}"
        yield f"{count.what:{width}}  {published:>9}  {count.found:>5}  {count.usable:>6}{mark}"


def _listed(findings: Sequence[Finding]) -> Iterator[str]:
    groups: dict[str, list[str]] = {}
    for finding in findings:
        groups.setdefault(finding.text, []).append(finding.key)
    for said, keys in list(groups.items())[:_SHOWN]:
        rest = f" and {len(keys) - _GROUPED} more" if len(keys) > _GROUPED else ""
        yield f"  {', '.join(keys[:_GROUPED])}{rest}: {said}"
    if len(groups) > _SHOWN:
        yield f"  ... and {len(groups) - _SHOWN} more, see --json"


__all__ = [
    "KINDS", "Count", "Finding", "Report", "examine", "examine_run", "examine_split", "overlap", "plain",
    "refuse_overlap", "text",
]  # fmt: skip
