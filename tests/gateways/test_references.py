"""Where secrets lie: read when they are needed, and what is missing said in words (S2)."""

from pathlib import Path

import pytest

from ledger.gateways.references import SecretMissing, secret_at


def test_a_reference_leads_to_a_variable_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    assert secret_at("env:TOKEN", {"TOKEN": "s3cret"}) == secret_at(f"file:{tmp_path}/token", {}) == "s3cret"
    assert secret_at("env:TOKEN", {"TOKEN": "s3cret\r\n"}) == "s3cret"  # a line break at its end is nobody's secret


def test_a_reference_that_leads_nowhere_says_where_it_looked(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    (tmp_path / "lines").write_text("one\ntwo\n")
    for reference, why in (
        ("env:TOKEN", "is not set"),
        (f"file:{tmp_path}/none", "No such file"),
        (f"file:{tmp_path}/empty", "is empty"),
        (f"file:{tmp_path}/bytes", "not text"),
        (f"file:{tmp_path}", "directory"),
        (f"file:{tmp_path}/lines", "line break"),
        ("env:LINES", "line break"),
    ):
        with pytest.raises(SecretMissing, match=why) as error:
            secret_at(reference, {"TOKEN": " ", "LINES": "one\ntwo"})
        assert reference in str(error.value)
