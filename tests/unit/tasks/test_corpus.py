"""Corpora: what is read, in which order, and what is said of files that are not text."""

import json
import os
import textwrap
from pathlib import Path

import pytest

from mnemoscope.tasks.corpus import EMBEDDED, load_corpus


@pytest.mark.parametrize("corpus", ["prose", "code"])
def test_embedded_corpora_are_large_readable_and_deterministic(corpus):
    data = load_corpus(corpus)
    assert data == EMBEDDED[corpus]()
    assert len(data) > 20 * 1025 * 10
    assert b"\0" not in data
    assert "\r" not in data.decode("utf-8")


def test_embedded_corpora_hold_what_their_names_say():
    prose, code = load_corpus("prose"), load_corpus("code")
    assert b'The "assert" statement' in prose
    assert Path(textwrap.__file__).read_bytes() in code
    assert code.index(b"class ArgumentParser(") < code.index(b"class TextWrapper:")
    assert Path(json.__file__).read_bytes() not in code


def test_a_file_is_read_as_it_is_whatever_its_suffix(tmp_path):
    path = tmp_path / "notes.log"
    path.write_bytes("naïve\r\ntext".encode())
    assert load_corpus(str(path)) == "naïve\r\ntext".encode()


def test_a_changed_file_is_read_again_and_an_unchanged_one_is_not(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one")
    first = load_corpus(str(path))
    assert load_corpus(str(path)) is first
    path.write_text("other")
    assert load_corpus(str(path)) == b"other"


def test_a_folder_gives_its_text_files_in_order_of_path(tmp_path):
    for name in ("b.txt", "a/z.MD", "a/b/c.rst", ".hidden.txt", ".git/x.txt", "data.bin", "empty.txt", "C.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("" if name == "empty.txt" else name)
    assert load_corpus(str(tmp_path)) == b"C.txt\n\na/b/c.rst\n\na/z.MD\n\nb.txt\n\n"


def test_a_missing_path_is_refused_with_the_nearest_one(tmp_path, monkeypatch):
    (tmp_path / "novel.txt").write_text("text")
    with pytest.raises(ValueError, match=r"novle\.txt'.*'prose', 'code' or the path.*nearest valid: '.*novel\.txt'"):
        load_corpus(str(tmp_path / "novle.txt"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"corpus 'prosa': .*nearest valid: 'prose'"):
        load_corpus("prosa")
    with pytest.raises(ValueError, match="the current folder is"):
        load_corpus("nowhere/zzz/qqq")


def test_a_folder_without_text_is_refused(tmp_path):
    (tmp_path / "data.bin").write_text("text")
    with pytest.raises(ValueError, match=r"a folder must hold a file ending in \.jsonl, \.md, .*\.txt, got none"):
        load_corpus(str(tmp_path))


def test_an_empty_corpus_is_refused(tmp_path):
    (tmp_path / "empty.txt").touch()
    for corpus in (tmp_path, tmp_path / "empty.txt"):
        with pytest.raises(ValueError, match="must hold text, got 0 bytes"):
            load_corpus(str(corpus))


def test_a_binary_file_is_refused_with_the_offset(tmp_path):
    (tmp_path / "good.txt").write_text("good")
    (tmp_path / "wide.txt").write_bytes("wide".encode("utf-16-be"))
    with pytest.raises(ValueError, match=r"wide\.txt': must be UTF-8 text, got a NUL byte at offset 0; .*UTF-16"):
        load_corpus(str(tmp_path))


def test_an_undecodable_file_is_refused_with_the_offset(tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes("naïve".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin\.txt': must be UTF-8 text, got the undecodable byte 0xef at offset 2"):
        load_corpus(os.fspath(path))


def test_code_without_sources_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "__file__", str(tmp_path / "os.pyc"))
    with pytest.raises(ValueError, match=r"needs the standard library's sources, got no \.py file in .* use 'prose'"):
        EMBEDDED["code"]()


def test_json_lines_give_their_documents(tmp_path):
    (tmp_path / "a.jsonl").write_text('"One\\nstory."\n\n{"text": "Été.", "id": 1}\n')
    (tmp_path / "b.txt").write_text("Plain.")
    assert load_corpus(str(tmp_path)).decode() == "One\nstory.\n\nÉté.\n\nPlain."


@pytest.mark.parametrize(
    ("line", "message"), [("{", "line 2: must be JSON"), ('{"story": "x"}', "line 2: must be a JSON")]
)
def test_a_line_that_holds_no_document_is_refused(tmp_path, line, message):
    (tmp_path / "a.jsonl").write_text(f'"fine"\n{line}\n')
    with pytest.raises(ValueError, match=message):
        load_corpus(str(tmp_path / "a.jsonl"))
