"""Texts in the encodings that people have are read exactly, and what was detected is said."""
# ruff: file-ignore[ambiguous-unicode-character-string]

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.encodings import as_jsonl, cases, encoded, measure, read, records
from spice_select.errors import DatasetError
from spice_select.ingest import IntakeLimits, IntakeOptions
from spice_select.ingest.parse import parse


@pytest.mark.parametrize(("language", "encoding"), cases())
def test_the_text_comes_out_as_it_was_written(language: str, encoding: str) -> None:
    found = measure(language, encoding)
    assert (found["exact"], found["named"]) == (found["files"], found["files"])


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("It’s a “quoted” line – with dashes… and £5 or €7.", "cp1252"),
        ("L'élève a mangé la crêpe. Die Straße ist schön. ¿Dónde está el niño? São três ações.", "cp1252"),
        ("The temperature is 25 °C ± 2 µm × 3 and ½ done.", "cp1252"),
        ("Missä on lähin rautatieasema? Hyvää päivää, äiti söi leipää.", "cp1252"),
        ("Hvor ligger den nærmeste togstation? Jeg kan ikke forstå det på dansk.", "cp1252"),
        ("Gdje se nalazi najbliža željeznička stanica? Što je to, čovječe?", "cp1250"),
        ("Kur yra artimiausia geležinkelio stotis? Ačiū už pagalbą, šiandien gražu.", "cp1257"),
        ("Где је најближа железничка станица? Љубав и џем.", "cp1251"),
        ("Können Sie mir sagen, wo die nächste Straßenbahn fährt?", "cp850"),
    ],
)
def test_languages_beyond_the_corpus(text: str, encoding: str) -> None:
    written = as_jsonl([{"instruction": text, "output": f"Yes: {text}"}])
    assert read(written.encode(encoding))[0] == written


def test_an_encoding_that_is_given_decides(tmp_path: Path) -> None:
    text = as_jsonl([{"instruction": "你好", "output": "好"}])
    assert read(text.encode("gbk"))[0] != text, "two characters are too few to tell"
    found, warnings = read(text.encode("gbk"), "gbk")
    assert found == text
    assert warnings == ["the text was read as gbk, as was asked for"]
    source, out = tmp_path / "source", tmp_path / "out"
    source.write_bytes(text.encode("gbk"))
    out.mkdir()
    assert parse(source, out, IntakeOptions(encoding="GBK"), IntakeLimits()).num_usable == 1
    with pytest.raises(DatasetError) as raised:
        parse(source, out, IntakeOptions(encoding="ascii"), IntakeLimits())
    assert raised.value.code == "dataset-encoding"
    # Rows that are appended may be UTF-8 whatever the first ones were.
    source.write_text(text, encoding="utf-8")
    before = IntakeOptions(format="alpaca", columns={"prompt": "instruction", "response": "output"})
    manifest = parse(source, out, IntakeOptions(encoding="cp1252"), IntakeLimits(), continues=before)
    assert not any("cp1252" in warning for warning in manifest.warnings)


@pytest.mark.parametrize("name", ["no-such", "idna", "unicode_escape", "base64", "rot13", "utf-7", "\ud800"])
def test_what_is_no_encoding_of_a_file_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="encoding"):
        IntakeOptions(encoding=name)


def test_wide_text_without_a_mark_is_told_from_binary() -> None:
    text = as_jsonl(records("Japanese", 3, 0.0))
    for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
        assert read(encoded(text, encoding))[0] == text
    noise = bytes(range(256)) * 40
    assert not any("utf-16" in warning for warning in read(noise)[1])
