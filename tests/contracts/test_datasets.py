"""What every corpus must do: a stand-in that loads, and a missing folder that says where to ask."""

import re

import pytest

from fleeting import config, plugins
from fleeting.errors import UserError
from fleeting.records import Clip, Info


@pytest.fixture(scope="module", params=plugins.names("datasets"))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def dataset(name):
    return plugins.load("datasets", name)


@pytest.fixture(scope="module")
def root(dataset, tmp_path_factory):
    """A stand-in. Not to be changed by a test."""
    folder = tmp_path_factory.mktemp("standin") / "not" / "there"
    dataset.write_standin(folder)
    return folder


@pytest.fixture(scope="module")
def clips(dataset, root):
    return dataset.load(root)


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_info_is_complete(dataset):
    info = dataset.INFO
    assert isinstance(info, Info)
    assert all((info.title, info.paper, info.licence))
    assert re.match(r"https?://|.+@.+", info.request)
    assert set(info.subjects) == set(info.counts)
    for corpus, counts in info.counts.items():
        assert min(counts.values()) > 0
        assert 0 < info.subjects[corpus] <= sum(counts.values())
    assert not info.fetchable or callable(dataset.fetch)


def test_the_standin_loads(dataset, clips):
    assert all(isinstance(clip, Clip) for clip in clips)
    assert len({clip.key for clip in clips}) == len(clips) > 3
    assert {clip.dataset for clip in clips} <= set(dataset.INFO.counts)
    assert len({clip.group for clip in clips}) >= 2
    assert len({clip.emotion for clip in clips}) >= 2


def test_indices_are_ordered_and_inside(clips):
    for clip in clips:
        known = [index for index in (clip.onset, clip.apex, clip.offset) if index is not None]
        assert known == sorted(known)
        assert not known or known[0] >= 0
        assert clip.fps is None or clip.fps > 0
        if isinstance(clip.frames, tuple) and known:
            assert known[-1] < len(clip.frames)


def test_what_a_clip_names_is_there(clips):
    for clip in clips:
        frames = clip.frames if isinstance(clip.frames, tuple) else (clip.frames,) if clip.frames else ()
        assert all(path.exists() for path in (*frames, *(file.path for file in clip.flow_files)))


def test_loading_twice_gives_the_same_and_writes_nothing(dataset, root, clips):
    before = files(root)
    assert dataset.load(root) == clips
    assert files(root) == before


def test_the_standin_is_the_same_every_time(dataset, root, tmp_path):
    dataset.write_standin(tmp_path)
    assert files(tmp_path) == files(root)


def test_an_empty_folder_is_a_user_error(dataset, tmp_path):
    with pytest.raises(UserError, match=re.escape(str(tmp_path))):
        dataset.load(tmp_path)


def test_a_missing_root_names_the_page(name, dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(f"FLEETING_{name.upper()}", raising=False)
    with pytest.raises(UserError) as caught:
        config.root(name)
    assert dataset.INFO.request in str(caught.value)
    assert f"FLEETING_{name.upper()}" in str(caught.value)


def test_the_root_is_found_by_its_variable(name, root, monkeypatch):
    monkeypatch.setenv(f"FLEETING_{name.upper()}", str(root))
    assert config.root(name) == root
