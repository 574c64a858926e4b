"""Who may ask, and what every answer says to a browser."""

import re
from pathlib import Path

import pytest

from mnemoscope.browser.guarding import HEADERS, access_for, is_loopback
from tests.unit.browser.folders import a_folder, client

LOCAL = access_for("127.0.0.1", 8420, "")
OPEN = access_for("0.0.0.0", 8420, "s3cret-token", ["runs.example"])


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8420", 200),
        ("127.0.0.1:8420", 200),
        ("[::1]:8420", 200),
        ("LOCALHOST", 200),
        ("evil.example", 421),
        ("evil.example:8420", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.nip.io", 421),
        ("192.168.0.7:8420", 421),
        ("", 421),
        ("[::1", 200),
    ],
)
def test_on_loopback_only_its_own_names_are_known(tmp_path: Path, host: str, status: int):
    assert client(tmp_path, LOCAL).get("/", headers={"host": host}).status_code == status


@pytest.mark.parametrize(
    ("host", "status"),
    [("192.168.0.7:8420", 200), ("runs.example", 200), ("[fe80::1]:8420", 200), ("evil.example", 421)],
)
def test_elsewhere_addresses_and_given_names_are_known(tmp_path: Path, host: str, status: int):
    headers = {"host": host, "authorization": "Bearer s3cret-token"}
    assert client(tmp_path, OPEN).get("/", headers=headers).status_code == status


def test_other_addresses_need_a_token():
    with pytest.raises(ValueError, match="a token is required"):
        access_for("0.0.0.0", 8420, "")
    assert [is_loopback(host) for host in ("localhost", "127.0.0.9", "::1", "0.0.0.0", "::", "example.org")] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize(
    "path", ["/", "/runs/recall/before", "/api/runs", "/static/browser.js", "/compare", "/nothing"]
)
def test_nothing_is_answered_without_the_token(tmp_path: Path, path: str):
    site = client(a_folder(tmp_path), OPEN)
    for headers in (
        {},
        {"authorization": "Bearer wrong"},
        {"cookie": "mnemoscope-8420=wrong"},
        {"cookie": "other=s3cret-token"},
    ):
        answer = site.get(path, headers={"host": "10.0.0.1", **headers})
        assert answer.status_code == 401
        assert "recall" not in answer.text
    assert site.get(f"{path}?token=wrong", headers={"host": "10.0.0.1"}).status_code == 401


def test_the_token_of_an_address_moves_into_a_cookie(tmp_path: Path):
    site = client(a_folder(tmp_path), OPEN)
    answer = site.get("/runs/recall/before?token=s3cret-token&y=log", headers={"host": "10.0.0.1"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs/recall/before?y=log")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    kept = cookie.partition(";")[0]
    assert site.get("/", headers={"host": "10.0.0.1", "cookie": kept}).status_code == 200


def test_a_welcome_leads_nowhere_else(tmp_path: Path):
    answer = client(tmp_path, OPEN).get("http://10.0.0.1//evil.example/?token=s3cret-token")
    assert answer.headers["location"] == "/evil.example/"


def test_a_token_of_other_letters_is_refused_and_nothing_breaks(tmp_path: Path):
    site = client(tmp_path, OPEN)
    assert site.get("/?token=%C3%BC", headers={"host": "10.0.0.1"}).status_code == 401
    assert site.get("/", headers={"host": "10.0.0.1", "cookie": "mnemoscope-8420=ü".encode()}).status_code == 401


@pytest.mark.parametrize("path", ["/", "/nothing", "/api/runs", "/static/style.css", "/runs/recall/before"])
def test_every_answer_tells_the_browser_to_be_strict(tmp_path: Path, path: str):
    answer = client(a_folder(tmp_path)).get(path)
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    scripts = re.findall(r"script-src ([^;]*)", answer.headers["content-security-policy"])
    assert scripts == ["'self'"]
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_but_reading_is_answered(tmp_path: Path, method: str):
    site = client(a_folder(tmp_path))
    for path in ("/", "/runs/recall/before", "/api/runs", "/compare"):
        assert site.request(method, path).status_code == 405


def test_looking_changes_no_file(tmp_path: Path):
    site = client(a_folder(tmp_path))
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in tmp_path.rglob("*")}
    for path in ("/", "/runs/recall/before", "/runs/recall/before/figures", "/trials/trial", "/api/runs/recall/before"):
        assert site.get(path).status_code == 200
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in tmp_path.rglob("*")} == before
