"""Which encoding of one byte a character a text is in, by the alphabets of languages.

The same byte is e with grave in one encoding and c with caron in another. What is read rightly has the letters of one
language; what is read wrongly has letters that no language has together, capitals inside words, and signs where
letters should be. Where two alphabets hold all letters, usual words of the language decide.
"""

# ruff: file-ignore[ambiguous-unicode-character-string]

from __future__ import annotations

import re
from functools import cache
from typing import Final, NamedTuple

_WESTERN: Final = ("cp1252", "iso8859-15", "mac_roman", "cp850")
_CENTRAL: Final = ("cp1250", "iso8859-2", "cp852")
_CYRILLIC: Final = ("cp1251", "koi8_r", "koi8_u", "cp866", "iso8859-5", "mac_cyrillic")
_GREEK: Final = ("cp1253", "iso8859-7")
_TURKISH: Final = ("cp1254",)
_SIGNS: Final = frozenset("“”„‘’‚«»‹›–—…•·°§€£©®™¿¡\xa0\xad№ªº²³¹½¼¾±×÷µ¢¥")
_RUSSIAN: Final = "абвгдеёжзийклмнопрстуфхцчшщъыьэюя"
_LANGUAGES: Final = (
    ("àâæçéèêëîïôœùûüÿ", "le la les des est et que une dans pour qui pas sur", _WESTERN),
    ("äöüß", "der die das und ist nicht ein eine mit wie zu den", _WESTERN),
    ("áéíóúüñ", "el la los las que de es en un una para por con", _WESTERN),
    ("ãáàâçéêíóôõú", "o a os as que de um uma para com por do da em", _WESTERN),
    ("àèéìíîòóùú", "il lo la gli che di un una per con non sono", _WESTERN),
    ("åäöéæøà", "och att det en ett er og på i som av den är", _WESTERN),
    ("éëïóöüáíúè", "de het een en van is dat niet met voor op", _WESTERN),
    ("áæðéíóöúýþ", "og að er í ekki sem það fyrir með", _WESTERN),
    ("ąćęłńóśźż", "i w na z do nie jest to się jak o za", _CENTRAL),
    ("áčďéěíňóřšťúůýž", "a v na je se to s z do jak co kde", _CENTRAL),
    ("áäčďéíĺľňóôŕšťúýž", "a v na je sa to s z do ako kde", _CENTRAL),
    ("áéíóöőúüű", "a az és hogy nem egy is van mint el meg", _CENTRAL),
    ("ăâîşţș", "de la un o cu este pe nu care din mai", _CENTRAL),
    ("čćđšž", "i u na je se da za od su s kako gdje", _CENTRAL),
    ("çğıöşüâî", "ve bir bu için ile ne de da en mi", _TURKISH),
    (_RUSSIAN, "и в не на что с по это как для из от к у о за", _CYRILLIC),
    ("абвгґдеєжзиіїйклмнопрстуфхцчшщьюя", "і в не на що з по це як для із від до у про за", _CYRILLIC),
    ("абвгдђежзијклљмнњопрстћуфхцчџш", "и у не на да је се за од са", _CYRILLIC),
    ("αβγδεζηθικλμνξοπρστυφχψωάέήίόύώςϊϋΐΰ", "και το η ο να του της στο με για", _GREEK),
    ("אבגדהוזחטיכלמנסעפצקרשתךםןףץ", "של את על לא הוא היא זה עם מה אם כי בין", ("cp1255",)),
    ("ابتثجحخدذرزسشصضطظعغفقكلمنهويأإآؤئءىةًٌٍَُِّْـ،؛؟", "في من على إلى أن ما هذا التي الذي عن", ("cp1256", "iso8859-6")),
    ("āčēģīķļņšūž", "", ("cp1257",)),
    ("ąčęėįšųūž", "", ("cp1257",)),
    ("äöõüšž", "", ("cp1257",)),
    ("àâæçéèêëîïôœùûüÿäöüßáíóúñãõåøìòðþý", "", _WESTERN),  # several of these languages in one text
)
_FEWEST: Final = 0.9
"""Share of the characters beyond ASCII that an alphabet has to hold."""
_ODD: Final = re.compile(
    r"[^\W\d_][\xa1-\xbf\xd7\xf7\u2000-\u2bff\x80-\x9f][^\W\d_]|[a-zA-Z][\u0370-\u06ff]|[\u0370-\u06ff][a-zA-Z]|(?<=[a-zß-öø-ÿа-яα-ω])[À-ÖØ-ÞА-ЯΑ-Ω]"
)


class _Fit(NamedTuple):
    """How well an encoding and an alphabet explain a text; the greater the better."""

    share: float
    words: float
    rank: int


def by_alphabet(sample: bytes) -> str | None:
    """The encoding in which a text has the letters of one language; None where no alphabet fits.

    Args:
        sample: Some of the text, with bytes beyond ASCII.
    """
    best: tuple[_Fit, str] | None = None
    for letters, words, encodings in _LANGUAGES:
        for place, encoding in enumerate(encodings):
            text = _decoded(sample, encoding)
            if text is None:
                continue
            beyond = [sign for sign in text if sign > "\x7f"]
            known = sum(sign in _SIGNS or sign in _both(letters) for sign in beyond)
            share = (known - 2 * len(_ODD.findall(text))) / len(beyond)
            # Encodings of other systems than Windows and the web are the last that are thought of.
            fit = _Fit(round(share, 2) - 0.02 * (place > 1), round(_of_words(text, words), 2), -place)
            if share >= _FEWEST and (best is None or fit > best[0]):
                best = fit, encoding
    return None if best is None else best[1]


def _decoded(sample: bytes, encoding: str) -> str | None:
    try:
        return sample.decode(encoding)
    except UnicodeDecodeError:
        return None


@cache
def _both(letters: str) -> frozenset[str]:
    """The letters, small and great."""
    return frozenset(letters + letters.upper())


def _of_words(text: str, words: str) -> float:
    """Share of the words of a text that are usual ones of a language."""
    found = re.findall(r"[^\W\d_]+", text.lower())
    usual = frozenset(words.split())
    return sum(word in usual for word in found) / max(1, len(found))
