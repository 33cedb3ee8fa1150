"""What `doctor` finds in a corpus, in a split and in a run."""

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from fleeting import config, doctor, experiment, runs
from fleeting.datasets import _fixes, _sheets, casme2, casme3, dfme, samm, smic_hs
from fleeting.errors import UserError, ranges, spans
from fleeting.protocols import casme2 as casme2_protocol
from fleeting.protocols import loso
from fleeting.records import Clip, Fold, FoldResult, FoldTask

FRAMES = tuple(Path(f"{number}.png") for number in range(3))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A stand-in of CAS(ME)^3. Not to be changed by a test."""
    root = tmp_path_factory.mktemp("casme3")
    casme3.write_standin(root)
    return root


@pytest.fixture(scope="module")
def report(corpus):
    return doctor.examine("casme3", corpus)


def of_kind(report, kind):
    return {finding.key: finding.text for finding in report.findings if finding.kind == kind}


def count(report, corpus, what):
    (found,) = [one for one in report.counts if (one.corpus, one.what) == (corpus, what)]
    return found.published, found.found, found.usable


def test_every_row_that_cannot_be_used_is_named(report, corpus):
    assert of_kind(report, "problem") == {clip.key: clip.problem for clip in casme3.load(corpus) if clip.problem}
    assert len(of_kind(report, "problem")) == 2
    assert not report.sound


def test_a_frame_missing_inside_a_clip_is_named(report):
    assert of_kind(report, "gap") == {"casme3/spNO.1/b@166": "want every frame, found no 170; complete the corpus"}


def test_an_apex_on_the_onset_is_named(report):
    assert list(of_kind(report, "still")) == ["casme3/spNO.42/m@7", "casme3/spNO.9/h@4"]


def test_counts_stand_beside_the_published_ones(report):
    assert count(report, "casme3", "others") == (161, 9, 8)
    assert count(report, "casme3", "clips") == (860, 18, 16)
    assert count(report, "casme3", "subjects") == (94, 11, 10)


def test_parts_are_counted_by_themselves(tmp_path):
    dfme.write_standin(tmp_path)
    report = doctor.examine("dfme", tmp_path)
    assert count(report, "dfme, part A", "anger") == (39, 1, 0)
    assert count(report, "dfme, part A", "clips") == (474, 4, 3)
    assert count(report, "dfme, part train", "clips")[0] == 1856
    assert count(report, "dfme", "clips")[0] == 2629


def placeholders(module, real, root):
    """Copies the real sheets, makes an empty folder a clip, and gives folder -> frame numbers from end to end."""
    marks: dict[str, list[str]] = {}
    for sheet, name, place in SHEETS[module]:
        shutil.copy(real / "annotations" / sheet, root / name)
        rows = _fixes.applied(module.annotations(root / name), _fixes.read(module.__name__.rpartition(".")[2]))
        for row in rows:
            marks.setdefault(place.format(**row), []).extend((row["onset"], row["offset"]))
    if module is smic_hs:
        with (real / "landmarks68" / "smic" / "coding.csv").open(encoding="utf-8-sig") as stream:
            for row in csv.DictReader(stream):
                place = f"HS/{row['Subject']}/micro/{row['Emotion']}/{row['Filename']}"
                marks[place] = [row["OnsetFrame"], row["OffsetFrame"]]
    for place in marks:
        (root / place).mkdir(parents=True)
    known = {place: [int(mark) for mark in found if mark != "/"] for place, found in marks.items()}
    return {root / place: range(min(found), max(found) + 1) for place, found in known.items()}


SHEETS = {  # loader -> its real sheets, the names under which they are released, folder of a row
    smic_hs: [],
    casme2: [("CASME2-coding-20140508.xlsx", "CASME2-coding-20140508.xlsx", "RAW/{subject}/{clip}")],
    samm: [("SAMM_Micro_FACS_Codes_v2.xlsx", "SAMM_Micro_FACS_Codes_v2.xlsx", "{subject}/{clip}")],
    casme3: [
        ("CASME3_partA_ME_v2.xlsx", "cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx", "part_A/{subject}/{clip}/color"),
    ],
    dfme: [
        (f"DFME_{part}_full_with_AU.xlsx", f"DFME_{part}_full_with_AU.xlsx", "data/{clip}")
        for part in ("training", "testA", "testB")
    ],
}  # fmt: skip


@pytest.mark.data
@pytest.mark.parametrize(
    ("module", "problems"),
    [(casme2, []), (samm, []), (smic_hs, []), (dfme, []), (casme3, ["casme3/spNO.214/c@5"])],
)  # fmt: skip
def test_a_complete_corpus_is_sound_but_for_what_is_known(module, problems, real, tmp_path, monkeypatch):
    """Empty files would tell no more than their names, of which there are many: folders are there, names are given."""
    numbers = placeholders(module, real, tmp_path)
    names = {folder: {index: folder / f"{index:05d}.png" for index in shown} for folder, shown in numbers.items()}
    monkeypatch.setattr(_sheets, "pictures", names.__getitem__)
    report = doctor.examine(module.__name__.rpartition(".")[2], tmp_path)
    assert list(of_kind(report, "problem")) == problems
    assert {finding.kind for finding in report.findings} <= {"problem", "no_apex", "still"}
    assert [one for one in report.counts if one.found != one.published] == []
    assert report.sound == (not problems)


def test_words_are_counted_in_any_case_and_shown_as_published():
    clips = [Clip("x", "s", str(place), FRAMES, emotion=word) for place, word in enumerate(["Fear", "FEAR", "joy", ""])]
    counts = doctor._by_emotion("x", {"Fear": 2, "Anger": 1}, clips)
    assert [(one.what, one.published, one.found) for one in counts] == [
        ("Fear", 2, 2), ("Anger", 1, 0), ("joy", None, 1), ("no emotion", None, 1), ("clips", 3, 4)]  # fmt: skip


def test_made_up_data_is_not_measured_by_the_published_counts(tmp_path):
    corpus = fake_corpus(tmp_path, standin=True)
    assert corpus.sound
    assert "made-up" in corpus.notices[0]
    assert not fake_corpus(tmp_path, standin=False).sound


def fake_corpus(root, standin):
    counts = (doctor.Count("x", "anger", 3, 2, 2),)
    return doctor.Report("x", root, standin, ("made-up data",), counts, ())


def test_a_look_into_the_pictures_finds_broken_ones(corpus, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(corpus, root)
    color = root / "part_A" / "spNO.1" / "a" / "color"
    whole = (color / "359.jpg").read_bytes()
    (color / "359.jpg").write_bytes(whole[: len(whole) // 2])
    (color / "357.jpg").write_bytes(b"")  # neither first, apex nor last
    assert not of_kind(doctor.examine("casme3", root), "picture")
    ((key, text),) = of_kind(doctor.examine("casme3", root, deep=True), "picture").items()
    assert (key, text.partition(":")[0]) == ("casme3/spNO.1/a@355", str(color / "359.jpg"))


def written(folder, picture, ending=".png", count=3):
    paths = tuple(folder / f"{number}{ending}" for number in range(count))
    for path in paths:
        cv2.imwrite(str(path), picture)
    return Clip("casme2", "sub01", "EP", paths, onset=0, apex=1, offset=2)


@pytest.mark.parametrize("ending", [".png", ".bmp", ".jpg"])
def test_a_whole_picture_is_no_complaint_and_half_of_it_is(tmp_path, ending):
    clip = written(tmp_path, np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8), ending)
    assert list(doctor._unreadable(clip)) == []
    clip.frames[1].write_bytes(clip.frames[1].read_bytes()[:-200])
    (complaint,) = doctor._unreadable(clip)
    assert f"1{ending}" in complaint


def test_a_16_bit_picture_is_a_complaint(tmp_path):
    (complaint,) = doctor._unreadable(written(tmp_path, np.full((40, 40), 40000, np.uint16)))
    assert "16-bit" in complaint


def test_missing_numbers_are_put_together():
    assert doctor._gaps([Path(f"img{number}.jpg") for number in (7, 8, 12, 14, 15)]) == [9, 10, 11, 13]
    assert ranges(spans([9, 10, 11, 13])) == "9 to 11, 13"
    assert doctor._gaps([Path("a.jpg"), Path("b.jpg")]) == []


def test_text_shows_everything_once(report):
    shown = doctor.text(report)
    assert "something is wrong" in shown
    assert "clips           860     18      16" in shown
    assert "rows that cannot be used (2)" in shown
    assert shown.count("casme3/spNO.214/c@5") == 1
    assert "casme3/spNO.42/m@7, casme3/spNO.9/h@4: the sheet says so" in shown


def test_text_puts_together_what_says_the_same_and_stops_somewhere():
    same = [
        doctor.Finding("no_apex", f"smic/s01/{number}", "the corpus names none; use a spotter") for number in range(9)
    ]
    many = [doctor.Finding("problem", f"smic/s02/{number}", f"wrong {number}") for number in range(20)]
    shown = doctor.text(doctor.Report("smic", Path("here"), False, (), (), (*same, *many)))
    assert "smic/s01/3 and 5 more: the corpus names none" in shown
    assert "wrong 11" in shown
    assert "wrong 12" not in shown
    assert "... and 8 more" in shown


def test_differences_from_the_published_counts_are_marked():
    counts = (
        doctor.Count("x", "anger", 3, 2, 2),
        doctor.Count("x", "joy", None, 1, 1),
        doctor.Count("x", "fear", 4, 4, 3),
    )
    report = doctor.Report("x", Path("here"), False, (), counts, ())
    lines = doctor.text(report).splitlines()
    assert [line.split()[-1] for line in lines if line[:4] in ("ange", "joy ", "fear")] == ["-1", "+1", "3"]
    assert not report.sound


def test_the_plain_form_is_json_and_holds_everything(report):
    read = json.loads(json.dumps(doctor.plain(report)))
    assert len(read["findings"]) == len(report.findings)
    assert read["counts"][0] == {"corpus": "casme3", "what": "anger", "published": 64, "found": 1, "usable": 1}
    assert (read["name"], read["sound"], read["standin"]) == ("casme3", False, True)


def test_an_unknown_corpus_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="did you mean 'casme3'"):
        doctor.examine("casme_3", tmp_path)


def test_another_corpus_is_one_clear_line(tmp_path):
    dfme.write_standin(tmp_path)
    with pytest.raises(UserError, match="DFME"):
        doctor.examine("casme3", tmp_path)


def people(count=3, clips=2):
    return [
        Clip("casme3", f"s{subject}", f"{index}", FRAMES, onset=0, apex=None if index else 1, offset=2, emotion="fear")
        for subject in range(count)
        for index in range(clips)
    ]


def test_a_split_by_subject_has_no_overlap():
    clips = people()
    assert doctor.overlap(loso.by_group(clips), clips) == ()


def test_a_subject_on_both_sides_is_named_with_its_clips():
    clips = people(clips=3)
    keys = [clip.key for clip in clips]
    fold = Fold("random", train=(*keys[:2], *keys[6:8]), valid=(keys[3],), test={"all": (keys[2], keys[4], keys[5])})
    assert [(one.key, one.text) for one in doctor.overlap([fold], clips)] == [
        ("casme3/s0", "fold random: 2 of its clips train or validate, 1 are tested"),
        ("casme3/s1", "fold random: 1 of its clips train or validate, 2 are tested"),
    ]


def test_a_subject_that_trains_and_validates_is_named_too():
    clips = people()
    keys = [clip.key for clip in clips]
    fold = Fold("mixed", train=(keys[0],), valid=(keys[1],), test={"all": tuple(keys[2:])})
    found = doctor.overlap([fold], clips)
    assert [(one.key, one.text) for one in found] == [("casme3/s0", "fold mixed: 1 of its clips train, 1 validate")]


def test_a_split_with_overlap_is_refused_in_one_line():
    clips = people()
    keys = [clip.key for clip in clips]
    doctor.refuse_overlap(loso.by_group(clips), clips)
    mixed = Fold("mixed", train=tuple(keys[1:]), test={"all": (keys[0],)})
    with pytest.raises(
        UserError, match=r"got 1 such, the first casme3/s0 .* protocol.subject_overlap = true"
    ) as caught:
        doctor.refuse_overlap([mixed], clips)
    assert "\n" not in str(caught.value)


def stratified(tmp_path, monkeypatch):
    """An experiment file with the frame study's split, on made-up clips of CASME II: ten subjects, seven emotions."""
    words = ("others", "disgust", "happiness", "repression", "surprise", "sadness", "fear")
    clips = [
        Clip("casme2", f"sub{subject:02d}", f"{index}", FRAMES, onset=0, apex=1, offset=2, emotion=word)
        for subject in range(10)
        for index, word in enumerate(words)
    ]
    monkeypatch.setattr(casme2, "load", lambda root: clips)
    monkeypatch.setenv("FLEETING_CASME2", str(tmp_path))
    path = tmp_path / "study.toml"
    protocol = 'protocol = { name = "casme2", classes = 7, subject_overlap = true }'
    path.write_text(f'datasets = ["casme2"]\nseeds = [0, 1]\n{protocol}\nmodel = {{ name = "ststnet" }}\n')
    return path


def test_an_experiments_split_is_examined_before_anything_runs(tmp_path, monkeypatch):
    path = stratified(tmp_path, monkeypatch)
    report = experiment.examine(config.read(path))
    assert not report.sound
    assert {finding.kind for finding in report.findings} == {"overlap"}
    assert report.findings[0].text.startswith("seed 0, fold stratified: ")
    assert "part train: 56 clips (disgust 8, happiness 8, repression 8, surprise 8, others 8, sadness 8, fear 8)" in (
        report.notices
    )
    assert "subjects in several parts of a split" in doctor.text(report)
    left_out = config.read(path, ["protocol.subject_overlap=false"])
    assert experiment.examine(left_out).sound


def test_a_protocol_with_overlap_runs_only_if_asked_for_by_name(tmp_path, monkeypatch):
    path = stratified(tmp_path, monkeypatch)
    asked = config.read(path)
    clips, labels, _ = experiment.load(asked)
    assert doctor.overlap(experiment.split(asked, clips, labels, 0), clips)
    silent = config.read(path, ["protocol.subject_overlap=false"])
    monkeypatch.setattr(casme2_protocol.loso, "by_group", lambda clips: [casme2_protocol._stratified(clips, labels, 0)])
    with pytest.raises(UserError, match="want no subject in two parts of a fold"):
        experiment.split(silent, clips, labels, 0)


def begin(folder, folds, clips, dropped=(), inner=0):
    header = {
        "digest": "x",
        "experiment": {"name": "trial", "seeds": [0], "inner": inner, "recipe": {"vote": "mean"}},
        "classes": ["fear", "anger"],
        "counts": {"clips": len(clips), "subjects": len({clip.group for clip in clips}), "tasks": len(folds)},
        "standin": [],
        "dropped": list(dropped),
    }
    return runs.begin(folder, header, clips, {clip.key: "fear" for clip in clips}, {0: folds})


def finish(folder, fold):
    keys = np.array(fold.tested)
    probs = np.full((1, len(keys), 2), 0.5, np.float32)
    task = runs.task_name(fold.name, 0, None)
    runs.write(folder, FoldResult(task, keys, np.array([""] * len(keys)), probs, {}, 1.0))


def test_a_finished_run_by_subject_is_sound(tmp_path):
    clips, folds = people(), loso.by_group(people())
    begin(tmp_path / "run", folds, clips)
    for fold in folds:
        finish(tmp_path / "run", fold)
    report = doctor.examine_run(tmp_path / "run")
    assert (report.sound, report.findings, report.name) == (True, (), "trial")
    assert report.notices == ("6 clips of 3 subjects in 2 classes, 3 of 3 tasks done",)


def test_a_run_tells_what_was_dropped_what_failed_and_what_is_not_done(tmp_path):
    dropped = [
        {"key": "casme3/s9/1", "stage": "label", "reason": "emotion 'others' has no class"},
        {"key": "casme3/s9/2", "stage": "label", "reason": "emotion 'others' has no class"},
        {"key": "casme3/s9/3", "stage": "prepare", "reason": "no face"},
    ]
    clips, folds = people(), loso.by_group(people())
    begin(tmp_path / "run", folds, clips, dropped)
    finish(tmp_path / "run", folds[0])
    runs.fail(tmp_path / "run", FoldTask(folds[1].name, 0, None, {}, {}, folds[1].tested), "loss is not finite")
    report = doctor.examine_run(tmp_path / "run")
    assert of_kind(report, "failed") == {"casme3~s1@0": "loss is not finite"}
    assert list(of_kind(report, "unfinished")) == ["casme3~s2@0"]
    assert "casme3/s9/1, casme3/s9/2: label: emotion 'others' has no class" in doctor.text(report)
    assert "casme3/s9/3: prepare: no face" in doctor.text(report)
    assert not report.sound


def test_inner_tasks_that_are_not_done_are_named(tmp_path):
    clips, folds = people(), loso.by_group(people())
    begin(tmp_path / "run", folds, clips, inner=2)
    for fold in folds:
        finish(tmp_path / "run", fold)
    names = [f"casme3~s{subject}@0.inner{part}" for subject in range(3) for part in range(2)]
    assert list(of_kind(doctor.examine_run(tmp_path / "run"), "unfinished")) == names


def test_a_run_with_a_subject_on_both_sides_names_it(tmp_path):
    clips = people(clips=3)
    keys = [clip.key for clip in clips]
    fold = Fold("random", train=tuple(keys[3:]), test={"all": tuple(keys[:3])})
    begin(tmp_path / "clean", [fold], clips)
    assert not of_kind(doctor.examine_run(tmp_path / "clean"), "overlap")
    fold = Fold("random", train=(keys[0], *keys[3:]), test={"all": tuple(keys[1:3])})
    begin(tmp_path / "run", [fold], clips)
    report = doctor.examine_run(tmp_path / "run")
    assert of_kind(report, "overlap") == {"casme3/s0": "fold random, seed 0: 2 of its 3 clips are tested"}


def test_a_list_of_clips_that_was_changed_is_found(tmp_path):
    clips, folds = people(), loso.by_group(people())
    begin(tmp_path / "run", folds, clips)
    path = tmp_path / "run" / "clips.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("fear,fear", "fear,anger", 1), encoding="utf-8")
    found = of_kind(doctor.examine_run(tmp_path / "run"), "list")
    assert list(found) == ["clips.csv"]
    path.write_text("\n".join(path.read_text(encoding="utf-8").splitlines()[:-1]) + "\n", encoding="utf-8")
    assert list(of_kind(doctor.examine_run(tmp_path / "run"), "list")) == ["clips.csv", "casme3/s2/1"]


def test_a_clip_that_is_tested_twice_is_found(tmp_path):
    clips = people()
    keys = [clip.key for clip in clips]
    folds = [Fold(name, train=tuple(keys[2:]), test={"all": tuple(keys[:2])}) for name in ("one", "two")]
    begin(tmp_path / "run", folds, clips)
    assert list(of_kind(doctor.examine_run(tmp_path / "run"), "tested_twice")) == ["casme3/s0/0", "casme3/s0/1"]


def test_what_is_no_run_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="want a run folder"):
        doctor.examine_run(tmp_path)
