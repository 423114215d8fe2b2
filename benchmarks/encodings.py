"""Texts in many encodings: how many are read as they were written, and what the detection names.

    python -m benchmarks.encodings [--json]

Rows are made from sentences of each language, alone and among English ones, and written as JSON Lines and as CSV in
every encoding that people of that language use.
"""
# ruff: file-ignore[ambiguous-unicode-character-string]

from __future__ import annotations

import argparse
import codecs
import csv
import io
import json
import random
import tempfile
from pathlib import Path
from typing import Any

from spice_select.errors import DatasetError
from spice_select.ingest import IntakeLimits
from spice_select.ingest.source import ByteSource

LANGUAGES: dict[str, tuple[list[str], list[str]]] = {
    "French": (
        [
            "Où se trouve la bibliothèque où l'élève a oublié son sac ?",
            "Le garçon naïf a mangé une crêpe à l'hôtel, près de la forêt.",
            "Ça coûte combien ? C'est très élevé pour un château abîmé.",
            "L'été dernier, nous avons fêté Noël à la plage : quelle idée !",
        ],
        ["cp1252", "latin-1", "iso8859-15"],
    ),
    "German": (
        [
            "Können Sie mir sagen, wo die nächste Straßenbahn fährt?",
            "Der Bär läuft über die grüne Wiese und frißt süße Äpfel.",
            "Größe und Gewicht müssen überprüft werden, bevor es weitergeht.",
            "Österreich hat schöne Täler und Höhen.",
        ],
        ["cp1252", "latin-1"],
    ),
    "Spanish": (
        [
            "¿Dónde está el baño más próximo, señor?",
            "El niño pequeño comió una piña en el jardín.",
            "¡Qué difícil es explicar la situación económica!",
            "Mañana iré a la estación con mi compañera española.",
        ],
        ["cp1252", "latin-1"],
    ),
    "Portuguese": (
        [
            "Não sei onde está a estação de São João.",
            "A informação não é necessária, pois já foi publicada.",
            "O avô comprou três pães e um pouco de maçã.",
            "Você não pode fazer isso amanhã às três?",
        ],
        ["cp1252", "latin-1"],
    ),
    "Italian": (
        [
            "Perché la città è così affollata? Non lo so, però è già tardi.",
            "È più facile di quanto sembri: la verità è là.",
            "Il caffè è buono, ma il tè è migliore.",
            "Chissà se lunedì sarà possibile.",
        ],
        ["cp1252", "latin-1"],
    ),
    "Swedish": (
        [
            "Var ligger närmaste järnvägsstation, och när går tåget?",
            "Den lilla flickan åt smörgås på ön.",
            "Jag förstår inte varför du är så trött på våren.",
            "Älgen står på ängen vid ån.",
        ],
        ["cp1252", "latin-1"],
    ),
    "Polish": (
        [
            "Gdzie jest najbliższa stacja kolejowa?",
            "Zażółć gęślą jaźń, powiedział mały chłopiec.",
            "Proszę wyjaśnić różnicę między żółwiem a żabą.",
            "Wiosną łąki są pełne świeżych kwiatów.",
        ],
        ["cp1250", "iso8859-2"],
    ),
    "Czech": (
        [
            "Kde je nejbližší nádraží a kdy jede vlak?",
            "Příliš žluťoučký kůň úpěl ďábelské ódy.",
            "Vysvětlete prosím rozdíl mezi řekou a potůčkem.",
            "Děti běžely přes louku ke škole.",
        ],
        ["cp1250", "iso8859-2"],
    ),
    "Hungarian": (
        [
            "Hol van a legközelebbi vasútállomás?",
            "Árvíztűrő tükörfúrógép működik a műhelyben.",
            "Kérem, magyarázza el a különbséget őz és szarvas között.",
            "Ősszel a fák levelei sárgák.",
        ],
        ["cp1250", "iso8859-2"],
    ),
    "Russian": (
        [
            "Где находится ближайшая железнодорожная станция?",
            "Маленькая девочка ела бутерброд на острове.",
            "Объясните, пожалуйста, разницу между рекой и ручьём.",
            "Осенью листья деревьев желтеют и опадают.",
        ],
        ["cp1251", "koi8-r", "cp866"],
    ),
    "Ukrainian": (
        [
            "Де знаходиться найближча залізнична станція?",
            "Поясніть, будь ласка, різницю між річкою і струмком.",
            "Її книжка лежить на столі біля вікна.",
            "Восени листя дерев жовтіє.",
        ],
        ["cp1251", "koi8-u"],
    ),
    "Greek": (
        [
            "Πού βρίσκεται ο πλησιέστερος σταθμός του τρένου;",
            "Το μικρό κορίτσι έτρωγε ένα σάντουιτς στο νησί.",
            "Εξηγήστε μου παρακαλώ τη διαφορά ανάμεσα σε ποτάμι και ρυάκι.",
            "Το φθινόπωρο τα φύλλα κιτρινίζουν.",
        ],
        ["cp1253", "iso8859-7"],
    ),
    "Turkish": (
        [
            "En yakın tren istasyonu nerede, söyler misiniz?",
            "Küçük kız adada bir sandviç yedi; çok şaşırdı.",
            "Lütfen nehir ile dere arasındaki farkı açıklayın.",
            "Sonbaharda ağaçların yaprakları sararır, ığdır güzeldir.",
        ],
        ["cp1254", "iso8859-9"],
    ),
    "Hebrew": (
        [
            "היכן נמצאת תחנת הרכבת הקרובה ביותר?",
            "הילדה הקטנה אכלה כריך על האי.",
            "אנא הסבר את ההבדל בין נהר לנחל.",
            "בסתיו העלים מצהיבים.",
        ],
        ["cp1255"],
    ),
    "Arabic": (
        [
            "أين تقع أقرب محطة قطار من هنا؟",
            "أكلت الفتاة الصغيرة شطيرة في الجزيرة.",
            "من فضلك اشرح الفرق بين النهر والجدول.",
            "في الخريف تصفر أوراق الأشجار.",
        ],
        ["cp1256"],
    ),
    "Japanese": (
        [
            "一番近い駅はどこにありますか。",
            "小さな女の子が島でサンドイッチを食べました。",
            "川と小川の違いを説明してください。",
            "秋になると木の葉が黄色くなります。",
        ],
        ["shift_jis", "cp932", "euc_jp", "iso2022_jp"],
    ),
    "Chinese simplified": (
        [
            "最近的火车站在哪里？",
            "小女孩在岛上吃了一个三明治。",
            "请解释河流和小溪之间的区别。",
            "秋天树叶变黄并掉落。",
        ],
        ["gbk", "gb18030"],
    ),
    "Chinese traditional": (
        [
            "最近的火車站在哪裡？",
            "小女孩在島上吃了一個三明治。",
            "請解釋河流和小溪之間的區別。",
            "秋天樹葉變黃並掉落。",
        ],
        ["big5"],
    ),
    "Korean": (
        [
            "가장 가까운 기차역이 어디에 있습니까?",
            "작은 소녀가 섬에서 샌드위치를 먹었습니다.",
            "강과 시내의 차이를 설명해 주세요.",
            "가을에는 나뭇잎이 노랗게 변합니다.",
        ],
        ["euc_kr", "cp949"],
    ),
}
UNICODE = [
    "utf-8",
    "utf-8-sig",
    "utf-16",
    "utf-16-le",
    "utf-16-be",
    "utf-16-be-bom",
    "utf-32",
    "utf-32-le",
    "utf-32-be",
]
SHAPES = ((1, 0.0), (3, 0.5), (40, 0.9), (200, 0.3))
"""Rows, and the share of answers that are English."""


def records(language: str, count: int, english: float) -> list[dict[str, str]]:
    said, draw = LANGUAGES[language][0], random.Random(5)
    return [
        {
            "instruction": f"{number}: {draw.choice(said)}",
            "output": " ".join(draw.sample(said, 2)) if draw.random() >= english else "Plain words, as in English.",
        }
        for number in range(count)
    ]


def as_jsonl(rows: list[dict[str, str]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def as_csv(rows: list[dict[str, str]]) -> str:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, ["instruction", "output"])
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def encoded(text: str, encoding: str) -> bytes:
    if encoding == "utf-16-be-bom":
        return codecs.BOM_UTF16_BE + text.encode("utf-16-be")
    return text.encode(encoding)


def read(content: bytes, encoding: str | None = None) -> tuple[str | None, list[str]]:
    """The text that comes out of a file, and the warnings; None where the file is refused."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(content)
        try:
            source = ByteSource(path, IntakeLimits(), encoding)
        except DatasetError:
            return None, []
        try:
            pieces = list(iter(source.read, b""))
        except DatasetError:
            return None, source.warnings
        finally:
            source.close()
        return b"".join(pieces).decode("utf-8", "replace").removeprefix("\ufeff"), source.warnings


def measure(language: str, encoding: str) -> dict[str, Any]:
    """How many files of a language in an encoding are read exactly."""
    files = exact = named = 0
    for write in (as_jsonl, as_csv):
        for count, english in SHAPES:
            text = write(records(language, count, english))
            found, warnings = read(encoded(text, encoding))
            files += 1
            exact += found == text
            named += any("was read as" in warning for warning in warnings) or encoding.startswith("utf-8")
    return {"language": language, "encoding": encoding, "files": files, "exact": exact, "named": named}


def cases() -> list[tuple[str, str]]:
    return [(language, encoding) for language, (_, own) in LANGUAGES.items() for encoding in [*own, *UNICODE]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one line of JSON alone")
    as_json = parser.parse_args().json
    found = [measure(language, encoding) for language, encoding in cases()]
    if not as_json:
        print("| language | encodings of its own, files read exactly | Unicode, files read exactly |\n|---|---|---|")
        for language, (_, own) in LANGUAGES.items():
            mine = [row for row in found if row["language"] == language]
            listed = ", ".join(f"{r['encoding']} {r['exact']}/{r['files']}" for r in mine if r["encoding"] in own)
            wide = [row for row in mine if row["encoding"] not in own]
            print(f"| {language} | {listed} | {sum(r['exact'] for r in wide)}/{sum(r['files'] for r in wide)} |")
    total = {name: sum(row[name] for row in found) for name in ("files", "exact", "named")}
    print(json.dumps({"benchmark": "encodings", **total, "cases": found}))


if __name__ == "__main__":
    main()
