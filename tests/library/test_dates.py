"""A run gives the same tokens on any day, in any time zone and under any locale."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from spice_select.config import GradientConfig
from spice_select.fingerprint import gradient_fingerprint, warmup_fingerprint
from spice_select.models.tiny import build_tiny_tokenizer
from spice_select.records.template_engine import fixed_clock
from spice_select.records.tokenize import encode

DATED = (
    "{{ strftime_now('%A %a %B %b %d %m %Y %H:%M %p %c %x %X %s %Z %%') }} {{ ['a', 'b', 'c'] | random }}\n"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
)
CONVERSATION = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
CHILD = """
import locale, sys, time, datetime
locale.setlocale(locale.LC_ALL, "")
from transformers.utils import chat_template_utils
class Moved(datetime.datetime):
    @classmethod
    def now(cls, tz=None): return cls(2031, 7, 9, 23, 59, tzinfo=tz)
chat_template_utils.datetime = Moved
sys.path.insert(0, sys.argv[1])
from tests.library.test_dates import tokens
print(tokens())
"""


def tokens() -> list[int]:
    tokenizer = build_tiny_tokenizer()
    tokenizer.chat_template = DATED
    return encode([CONVERSATION], tokenizer, max_length=512).examples[0].input_ids


@pytest.mark.parametrize(("zone", "language"), [("Asia/Kolkata", "C"), ("America/Los_Angeles", "de_DE.UTF-8")])
def test_the_clock_the_zone_and_the_locale_change_nothing(zone: str, language: str) -> None:
    environment = {**os.environ, "TZ": zone, "LC_ALL": language, "PYTHONHASHSEED": "7"}
    if (
        language != "C"
        and subprocess.run(["locale", "-a"], capture_output=True, text=True, check=False).stdout.find("de_DE") < 0
    ):
        environment["LC_ALL"] = "C.UTF-8"
    root = str(Path(__file__).parents[2])
    made = subprocess.run(
        [sys.executable, "-c", CHILD, root], env=environment, capture_output=True, text=True, check=True, cwd=root
    )
    assert made.stdout.splitlines()[-1] == str(tokens())


def test_the_date_is_that_of_the_settings() -> None:
    tokenizer = build_tiny_tokenizer()
    tokenizer.chat_template = DATED
    config = GradientConfig(chat_date="2024-03-02")
    example = encode([CONVERSATION], tokenizer, max_length=512, today=config.chat_date).examples[0]
    assert tokenizer.decode(example.input_ids).startswith(
        "Saturday Sat March Mar 02 03 2024 00:00 AM Sat Mar  2 00:00:00 2024"
    )
    assert tokenizer.decode(tokens()).startswith("Wednesday Wed January Jan 01 01 2025")


def test_names_are_english_and_a_percent_sign_stays() -> None:
    clock = fixed_clock(date(2024, 7, 26))
    assert clock("%d %b %Y") == "26 Jul 2024"
    assert clock("%%b 100%%") == "%b 100%"
    assert clock("%Y-%m-%d %j %U") == "2024-07-26 208 29"


def test_the_date_is_part_of_the_fingerprints() -> None:
    one, other = GradientConfig(warmup_steps=1), GradientConfig(warmup_steps=1, chat_date="2024-01-01")
    prints = [gradient_fingerprint(rows_sha256="r", proxy_revision="p", config=config) for config in (one, other)]
    assert len(set(prints)) == 2
    warmups = [warmup_fingerprint(pool="r", proxy_revision="p", config=config) for config in (one, other)]
    assert len(set(warmups)) == 2


@pytest.mark.parametrize("day", ["2024-13-01", "2024-02-30", "today", "24-01-01"])
def test_a_date_that_is_none_is_refused(day: str) -> None:
    with pytest.raises(ValueError, match=r"chat_date|month|day|pattern"):
        GradientConfig(chat_date=day)
