"""The published MEGC2019 flow: the real data, the stand-in, and everything that can be wrong with them."""

import csv
import hashlib
import shutil
import warnings
from collections import Counter

import cv2
import numpy as np
import pytest

from fleeting import motion
from fleeting.datasets import megc2019_flow
from fleeting.datasets.megc2019_flow import INFO, LIST, PICTURES
from fleeting.errors import UserError
from fleeting.inputs import uvs28
from fleeting.protocols import megc2019
from fleeting.records import FaceClip, Moment


@pytest.fixture
def corpus(standin, tmp_path):
    """A stand-in to break."""
    return shutil.copytree(standin, tmp_path / "corpus")


@pytest.fixture(scope="session")
def clips(real):
    return megc2019_flow.load(real / "megc2019")


def rows(root):
    with (root / LIST).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def rewrite(root, changed):
    with (root / LIST).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(changed[0]))
        writer.writeheader()
        writer.writerows(changed)


def contents(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


# --- the real data


@pytest.mark.data
def test_the_real_corpus(clips):
    assert len(clips) == 442
    assert len({clip.key for clip in clips}) == 442
    assert len({clip.group for clip in clips}) == 68
    found = Counter((clip.dataset, clip.emotion) for clip in clips)
    assert found == {(corpus, name): count for corpus, counts in INFO.counts.items() for name, count in counts.items()}
    assert sum(found.values()) == 442
    for corpus, count in INFO.subjects.items():
        assert len({clip.subject for clip in clips if clip.dataset == corpus}) == count
    assert {"casme2/sub01/EP02_01f", "samm/006/006_1_2", "smic/s01/s01_ne_01"} <= {clip.key for clip in clips}


@pytest.mark.data
def test_a_real_clip(clips, real):
    (clip,) = (clip for clip in clips if clip.key == "samm/006/006_1_2")
    assert (clip.frames, clip.onset, clip.apex, clip.offset, clip.fps) == (None, 0, 1, 1, None)
    (flow,) = clip.flow_files
    assert flow.path == real / "megc2019" / PICTURES / "006_006_1_2 .png"
    assert (flow.pair, flow.channels, flow.unit) == ((0, 1), ("strain", "v", "u"), "minmax")
    field = motion.read(flow)
    picture = cv2.imread(str(flow.path), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(np.rint(field.uv * 255), picture[..., [2, 1]].transpose(2, 0, 1))
    assert np.array_equal(np.rint(field.strain * 255), picture[..., 0])


@pytest.mark.data
def test_the_third_channel_is_strain(clips):
    """Against the two others: strain follows the gradients of u and v, as far as their scales allow."""
    found = []
    for clip in clips[::20]:
        field = motion.read(clip.flow_files[0])
        (u_y, u_x), (v_y, v_x) = np.gradient(field.uv[0]), np.gradient(field.uv[1])
        gradient = np.sqrt(u_x**2 + u_y**2 + v_x**2 + v_y**2)
        found.append(np.corrcoef(gradient.ravel(), field.strain.ravel())[0, 1])
        assert field.strain.mean() < field.uv.mean()
    assert np.median(found) > 0.7


@pytest.mark.data
def test_the_real_labels_are_the_official_ones(clips, real):
    path = real / "annotations" / "megc2019_combined_3class_gt.csv"
    official = {}
    with path.open(newline="", encoding="utf-8") as stream:
        for corpus, subject, name, label in csv.reader(stream):
            if corpus:  # the list holds blank rows
                official[corpus, subject.zfill(3) if corpus == "samm" else subject, name] = int(label)
    ours = {(clip.dataset, clip.subject, clip.name): clip.emotion for clip in clips}
    words = megc2019.classes(megc2019.Options())
    assert ours == {key: words[label] for key, label in official.items()}
    assert all(megc2019.label(clip, megc2019.Options()) == clip.emotion for clip in clips)


@pytest.mark.data
def test_the_input_gives_back_the_published_bytes(clips):
    for clip in clips[::40]:
        face = FaceClip(clip, Moment(0, 1, 1))
        flows = {(0, 1): motion.read(clip.flow_files[0])}
        (view,) = uvs28.make(face, flows, uvs28.Options(areas="whole"))
        picture = cv2.imread(str(clip.flow_files[0].path), cv2.IMREAD_UNCHANGED)
        assert np.allclose(view.x["flow"], picture[..., ::-1].transpose(2, 0, 1), atol=1e-3)


@pytest.mark.data
def test_a_subject_missing_from_the_real_list(real, tmp_path):
    root = tmp_path / "megc2019"
    (root / PICTURES).parent.mkdir(parents=True)
    (root / PICTURES).symlink_to(real / "megc2019" / PICTURES)
    kept = rows(real / "megc2019")
    rewrite(root, kept)
    assert len(megc2019_flow.load(root)) == 442
    rewrite(root, [row for row in kept if row["sub"] != "s13"])
    with pytest.raises(UserError, match=rf"{LIST}: want \d+ \w+ clips of smic, got \d+; fetch the data again"):
        megc2019_flow.load(root)
    moved = [{**row, "label": {"0": "1", "1": "0"}.get(row["label"], row["label"])} for row in kept]
    rewrite(root, moved)
    with pytest.raises(UserError, match="want 88 negative clips of casme2, got 32"):
        megc2019_flow.load(root)


@pytest.mark.data
def test_two_subjects_written_as_one(real, tmp_path):
    """Class counts cannot tell; the number of subjects can."""
    root = tmp_path / "megc2019"
    (root / PICTURES).mkdir(parents=True)
    kept = rows(real / "megc2019")
    for row in kept:
        source = real / "megc2019" / PICTURES / f"{row['sub']}_{row['filename_o']} .png"
        if row["sub"] == "s20":
            row["sub"], row["filename_o"] = "s19", f"{row['filename_o']}x"
        (root / PICTURES / f"{row['sub']}_{row['filename_o']} .png").symlink_to(source)
    rewrite(root, kept)
    with pytest.raises(UserError, match="want 16 subjects of smic, got 15"):
        megc2019_flow.load(root)


# --- fetching


@pytest.mark.data
def test_fetch_from_a_copy(real, tmp_path):
    steps = []
    target = tmp_path / "new" / "folder"
    assert megc2019_flow.fetch(target, str(real / "megc2019"), lambda done, of: steps.append((done, of))) == 443
    assert steps == [(done, 443) for done in range(1, 444)]
    sums = megc2019_flow.checksums()
    found = {str(name): hashlib.sha256(data).hexdigest() for name, data in contents(target).items()}
    assert found == sums
    assert len(megc2019_flow.load(target)) == 442
    # nothing is copied twice; what is missing or broken is
    assert megc2019_flow.fetch(target, str(real / "megc2019")) == 0
    names = list(sums)
    (target / names[5]).unlink()
    (target / names[7]).write_bytes(b"broken")
    assert megc2019_flow.fetch(target, str(real / "megc2019")) == 2
    assert {str(name): hashlib.sha256(data).hexdigest() for name, data in contents(target).items()} == sums


@pytest.mark.data
def test_a_source_of_another_version_is_refused(real, tmp_path):
    names = list(megc2019_flow.checksums())[:6]
    source, target = tmp_path / "source", tmp_path / "target"
    for name in names:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(real / "megc2019" / name, source / name)
    data = bytearray((source / names[3]).read_bytes())
    data[-1] ^= 1
    (source / names[3]).write_bytes(data)
    with pytest.raises(UserError, match=r"want SHA-256 \w{12}\.\.\., got \w{12}\.\.\.; the source is another version"):
        megc2019_flow.fetch(target, str(source))
    assert set(map(str, contents(target))) == set(names[:3])
    # mended, it goes on where it stopped, and then misses what is not there
    shutil.copyfile(real / "megc2019" / names[3], source / names[3])
    with pytest.raises(UserError, match="want the file to copy, found none"):
        megc2019_flow.fetch(target, str(source))
    assert set(map(str, contents(target))) == set(names)


def test_fetch_into_a_file(standin, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot be fetched"):
        megc2019_flow.fetch(tmp_path / "file" / "below", str(standin))


def test_an_address_that_does_not_answer(tmp_path):
    with pytest.raises(UserError, match=r"cannot be downloaded \(.*or give a local copy with --from"):
        megc2019_flow.fetch(tmp_path, "http://127.0.0.1:9/nothing")
    assert contents(tmp_path) == {}


def test_checksums():
    sums = megc2019_flow.checksums()
    assert len(sums) == 443
    assert LIST in sums
    assert sum(name.startswith(f"{PICTURES}/") and name.endswith(" .png") for name in sums) == 442
    assert all(len(digest) == 64 for digest in sums.values())


# --- the stand-in


def test_the_standin_is_the_same_everywhere(tmp_path, standin):
    megc2019_flow.write_standin(tmp_path / "a", subjects=3, clips=5)
    assert contents(tmp_path / "a") == contents(standin)
    megc2019_flow.write_standin(tmp_path / "b", subjects=3, clips=5, seed=1)
    assert contents(tmp_path / "b") != contents(standin)


def test_the_standin_has_the_layout_of_the_corpus(standin):
    clips = megc2019_flow.load(standin)
    assert len(clips) == 3 * 3 * 5
    assert Counter(clip.dataset for clip in clips) == {"casme2": 15, "samm": 15, "smic": 15}
    assert len({clip.group for clip in clips}) == 9
    assert {clip.key for clip in clips} >= {"casme2/sub01/EP01_01f", "samm/001/001_01", "smic/s01/s01_01"}
    for group in {clip.group for clip in clips}:
        assert {clip.emotion for clip in clips if clip.group == group} == {"negative", "positive", "surprise"}
    assert set(rows(standin)[0]) == {"dataset", "sub", "filename_o", "label"}
    for clip in clips:
        picture = cv2.imread(str(clip.flow_files[0].path), cv2.IMREAD_UNCHANGED)
        assert (picture.shape, picture.dtype) == ((28, 28, 3), np.uint8)
        assert picture.min(axis=(0, 1)).tolist() == [0, 0, 0]
        assert picture.max(axis=(0, 1)).tolist() == [255, 255, 255]


def test_the_standin_says_so(standin, tmp_path):
    assert megc2019_flow.is_standin(standin)
    assert not megc2019_flow.is_standin(tmp_path)


# --- what can be wrong


def test_no_list(tmp_path):
    with pytest.raises(UserError, match=rf"{LIST}: want the list of clips, found no file; run: fleeting data fetch"):
        megc2019_flow.load(tmp_path)


def first_picture(root):
    return megc2019_flow.load(root)[3].flow_files[0].path


def test_a_missing_picture(corpus):
    path = first_picture(corpus)
    path.unlink()
    with pytest.raises(UserError, match=rf"{path.name}: want a flow picture, found no file; fetch the data again"):
        megc2019_flow.load(corpus)


@pytest.mark.parametrize("kept", [0, 10, 40, 0.5, 0.9, -1, -12])
def test_a_truncated_picture(corpus, kept):
    path = first_picture(corpus)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    with pytest.raises(
        UserError, match=rf"{path.name}: want a flow picture of three 8-bit channels, got a truncated or unread"
    ):
        megc2019_flow.load(corpus)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((28, 29, 3), np.uint8), "want a picture of 28 x 28, got 29 x 28"),
        (np.zeros((28, 28), np.uint8), r"want .* got \(28, 28\) uint8"),
        (np.zeros((28, 28, 3), np.uint16), r"want .* got \(28, 28, 3\) uint16"),
    ],
)
def test_a_picture_of_another_kind(corpus, picture, message):
    path = first_picture(corpus)
    path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    with pytest.raises(UserError, match=f"{path.name}: {message}"):
        megc2019_flow.load(corpus)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": "3"}, r"line 4: want a label 0, 1 or 2, got '3'; correct the list"),
        ({"label": ""}, r"line 4: want a label 0, 1 or 2, got ''"),
        ({"dataset": "casme3"}, r"line 4: want a dataset of \['casme2', 'samm', 'smic'\], got 'casme3'"),
        ({"dataset": ""}, r"line 4: want a dataset"),
    ],
)
def test_a_wrong_row(corpus, changes, message):
    listed = rows(corpus)
    listed[2].update(changes)
    rewrite(corpus, listed)
    with pytest.raises(UserError, match=rf"{LIST}, {message}"):
        megc2019_flow.load(corpus)


def test_a_clip_named_twice(corpus):
    listed = rows(corpus)
    rewrite(corpus, [*listed, listed[0]])
    with pytest.raises(UserError, match=rf"{LIST}: want unique clip keys, got casme2/sub01/EP01_01f twice"):
        megc2019_flow.load(corpus)


def test_a_missing_column(corpus):
    rewrite(corpus, [{name: value for name, value in row.items() if name != "sub"} for row in rows(corpus)])
    with pytest.raises(UserError, match=rf"{LIST}: want columns .*found no \['sub'\]"):
        megc2019_flow.load(corpus)


def test_blank_rows_blanks_and_a_byte_order_mark_do_no_harm(corpus):
    wanted = megc2019_flow.load(corpus)
    text = (corpus / LIST).read_text(encoding="utf-8")
    lines = [f"{line.replace(',', ' , ')},," if number else line for number, line in enumerate(text.splitlines())]
    lines[5:5] = [",,,", "", "  , ,,"]
    (corpus / LIST).write_text("\ufeff" + "\r\n".join(lines) + "\r\n\r\n", encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert megc2019_flow.load(corpus) == wanted


def test_a_real_folder_is_counted(corpus):
    (corpus / megc2019_flow.STANDIN).unlink()
    with pytest.raises(UserError, match=rf"{LIST}: want 88 negative clips of casme2, got \d+; fetch the data again"):
        megc2019_flow.load(corpus)
