"""Literals: what an English decoder reads as it stands, found in real sentences of many scripts."""

import unicodedata
from collections import deque

import pytest
import regex
from hypothesis import assume, given
from hypothesis import strategies as st

from llink.modeling_llink import literals
from llink.modeling_llink.literals import LITERAL_KINDS, MAX_LITERAL_CHARS, Literal, find_literals


def found(text, *kinds):
    return [literal.text for literal in find_literals(text, kinds or LITERAL_KINDS)]


SENTENCES = {
    # months at a number or at the word for month, weekdays: by their English names
    "នៅថ្ងៃទី ៣១ ខែមករា ឬថ្ងៃសៅរ៍": ["31", "January", "Saturday"],
    "ធ្នូមួយ និងតុលាការ ព្រះអាទិត្យ ចន្ទ": [],
    "ဇန်နဝါရီလ ၃၁ ရက် တနင်္လာနေ့တွင်၊ မေလ": ["January", "31", "Monday", "May"],
    "မေလျှင် မေ့သွား အင်္ဂါ": [],
    "ከማርች 11 እስከ ኤፕሪል 4 ቅዳሜ፣ ኢሜይል": ["March", "11", "April", "4", "Saturday"],
    "13 марта 2020, 5 майор, май, среда": ["13", "March", "2020", "5"],
    "सोमवार को 5 मार्च, มกราคม วันจันทร์ที่ 5 มีนาคม": ["Monday", "5", "March", "Monday", "5", "March"],
    "يوم الاثنين 13 مارس، الاثنين": ["Monday", "13", "March"],
    # Khmer: what a translation of the paper's demo lost
    "រោងចក្រនេះផលិតថាមពល ៣០ MW ក្នុងមួយម៉ោង។": ["30", "MW"],
    "ផ្លូវនេះមានប្រវែង ២៥ km ពីទីក្រុង។": ["25", "km"],
    "គាត់កើតនៅឆ្នាំ១៩៨៥ នៅភ្នំពេញ។": ["1985"],
    "តម្លៃគឺ $៥០ ក្នុងមួយថ្ងៃ។": ["$50"],
    "តម្លៃ ៥.០០០៛ ឬ ៥០០ ៛ ក្នុងម្នាក់": ["5.000៛", "500 ៛"],
    "នៅថ្ងៃទី ០៤/០៣/២០២១ ម៉ោង ៧:៣០": ["04/03/2021", "7:30"],
    "ចន្លោះ ១០–២០% ហើយ ២+២=៤ និង ៥×៣ ក្នុងកំណែ ៣.១០.២": ["10-20%", "2+2=4", "5x3", "3.10.2"],
    "ប្រជាជន 1 000 000 នាក់ និង 80\u00a0000 នាក់": ["1 000 000", "80 000"],
    "សីតុណ្ហភាព −៥ អង្សា ទំព័រ-៥ និងទូរស័ព្ទ +៨៥៥": ["-5", "5", "+855"],
    "ចុច​ប៊ូតុង Ctrl+C ក្នុង​កម្មវិធី LibreOffice Calc ៧.៤ រួច​បោះពុម្ព​លើ​ក្រដាស​ទំហំA4": ["Ctrl+C", "LibreOffice Calc", "7.4", "A4"],
    # Burmese: the letter ဝ is often typed as zero, zero as the letter, and ၎ as 4
    "၀န်ကြီးချုပ်သည် ၂၀၁၉ ခုနှစ်တွင် နေပြည်တော်သို့ ရောက်သည်။": ["2019"],
    "အဏုဇီ၀ပိုးမွှားများ၊ ၀ယ်သူများ၊ ၀င်ရောက်ခြင်း၊ ဘ၀၊ ၀တ္ထု": [],
    "၂ဝ၁ဝ ပြည့်နှစ်၊ ၁ဝ ရက်၊ ၁ဝဝဝ ကျပ်၊ ၁,ဝဝဝကျပ်၊ ဝ.၅ မိုင်": ["2010", "10", "1000", "1,000", "0.5"],
    "ဖုန်း ဝ၉-၄၂ဝဝ၁၂၃၄": ["09-42001234"],
    "၂၀၁၅ဝန်ကြီးနှင့် ၂၀၁၅၀န်ကြီး": ["2015", "2015"],
    "၁၀ရက်၊ ၅၀နှစ်၊ ၅၀ခန့်၊ ၇ရက်၊ ၁၀ယောက်": ["10", "50", "50", "7", "10"],
    "၇န်ကုန်တွင် ၇ှိသည်၊ ၄င်း၏ အမည်": [],
    "၀ မှ ၁၀ အထိ၊ ၀.၅၊ ၀ရာခိုင်နှုန်း၊ ၁၉ရ၅၊ ၁၀:၀၀နာရီ": ["0", "10", "0.5", "0", "1975", "10:00"],
    "၁၀၊၀၀၀ ကျပ်": ["10,000"],
    # scripts of India: zero for anusvara, letters, and the sign of abbreviation
    "ప్రప౦చ౦లో ౧౦ కిలోమీటర్లు, ౨౦౧౫, ౧ం": ["10", "2015", "10"],
    "ಪ್ರಪ೦ಚದಲ್ಲಿ ೨೦೧೫": ["2015"],
    "അവ൪ പ്രപ൦ച൦, അവ൯ ൨൦൧൫": ["2015"],
    "ପା୦ ୦ାରୁ ୨୦୧୫ ୧ଠ": ["2015", "10"],
    "பக்கம் ௧௦, ௨லகம் ௨௦௧௫": ["10", "2015"],
    "डॉ० शर्मा १० कि०मी० दूर, १,००,००० रुपये, ₹५००, ०.५": ["10", "1,00,000", "₹500", "0.5"],
    "ໜ້າ ໑໐ ປີ ໒໐໑໕": ["10", "2015"],
    "ปี ๒๕๖๓ ราคา ๕๐ บาท หรือ ฿๕๐ เวลา ๑๐:๓๐ น.": ["2563", "50", "฿50", "10:30"],
    # Arabic: ه after a year is a letter, ٥ a digit
    "سنة ١٤٤٢هـ و١٢٫٥٪ و١٬٠٠٠ و١،٠٠٠ في ٢٠٢١/٣/٤": ["1442", "12.5%", "1,000", "1,000", "2021/3/4"],
    "۱۳۹۹ خورشیدی، ۱۲٫۵ درصد، ساعت ۱۲:۳۰": ["1399", "12.5", "12:30"],
    # Ethiopic numerals have no digit zero and no places
    "በ፲፱፻፹፭ ዓ.ም.፣ ፳፻፲፫፣ ፪፼ እና ፻፤ 4፡00 ሰዓት፣ 1፣000 ብር": ["1985", "2013", "20000", "100", "4:00", "1,000"],
    "ተራ ቁጥር ፩፪፫ ነው።": [],
    "ሳርስ-ኮቭ-2 በ80,000 ሰዎች": ["2", "80,000"],
    # Han numerals are words and names; full-width forms are digits
    "一月三日は二千人。三菱と千葉、第〇回": [],
    "2020年３月４日、１０万人、約3千、10〜20人、ＡＢＣ社の１２．５％、￥５００": [
        "2020", "3", "4", "10", "3", "10~20", "ABC", "12.5%", "¥500",
    ],
    # Latin words, units and codes where most letters are not Latin
    "ប្រតិកម្មនៃ H₂O និង H2O និង CO₂ ក្នុងសីតុណ្ហភាព 37°C ឬ −5°C": ["H₂O", "H2O", "CO₂", "37°C", "-5°C"],
    "ល្បឿន 30km ចម្ងាយ 10,000m តម្លៃ $5M វីរុស 2019-nCoV និង COVID-19 អត្រា 50%-ONLY": [
        "30km", "10,000m", "$5M", "2019-nCoV", "COVID-19", "50%", "ONLY",
    ],
    "លោក J. K. Rowling និងលោក O’Neil's ប្រើភាសា C++ ភាសា C# និង R&D ជាមួយ Tom & Jerry ក្នុងប្រទេសកម្ពុជា": [
        "J. K. Rowling", "O'Neil's", "C++", "C#", "R&D", "Tom & Jerry",
    ],
    # not the number that is meant: 10⁶ is no 10, 5½ no 5
    "ចំនួន 10⁶ និង 5½ និង ២៥ km²": ["25", "km²"],
    # Swahili and Vietnamese: no word, and no digit of a word
    "Bei ni TZS 5,000 kwa kilo, A4, COVID-19, 30km, tarehe 2021-03-04 saa 7:30.": ["5,000", "30", "2021-03-04", "7:30"],
    "Giá là 50.000đ hay 2,5% ngày 4/3/2021, H2O, v1.2": ["50.000", "2,5%", "4/3/2021"],
    "Faili report.odt iko kwenye /usr/bin/x, C:\\x\\y.txt na ~/kazi; Node.js.": [
        "report.odt", "/usr/bin/x", "C:\\x\\y.txt", "~/kazi", "Node.js",
    ],
    "Tazama https://sw.wikipedia.org/wiki/Chai_(kinywaji), www.a.co.tz na info@mfano.org (2020).": [
        "https://sw.wikipedia.org/wiki/Chai_(kinywaji)", "www.a.co.tz", "info@mfano.org", "2020",
    ],
}  # fmt: skip


@pytest.mark.parametrize("text", SENTENCES)
def test_literals_of_sentences(text):
    assert found(text) == SENTENCES[text]


def test_places_and_kinds():
    text = "សូមមើល http://a.org/១ ថ្ងៃទី ៤/៣/២០២១ ម៉ោង ៧:៣០ ក្នុង a.txt ជាមួយ Calc ៧"
    assert find_literals(text) == [
        Literal(7, 20, "http://a.org/", "address"),
        Literal(20, 21, "1", "number"),
        Literal(29, 37, "4/3/2021", "date"),
        Literal(43, 47, "7:30", "time"),
        Literal(54, 59, "a.txt", "file"),
        Literal(66, 70, "Calc", "latin"),
        Literal(71, 72, "7", "number"),
    ]


def test_kinds_are_chosen_and_digits_of_an_address_are_never_numbers():
    text = "មើល http://a.org/2020 ក្នុង Calc 7 និង 30km និង A4"
    assert found(text, "number") == ["7", "30"]
    assert found(text, "address", "latin") == ["http://a.org/2020", "Calc", "30km", "A4"]
    assert found(text, "date") == []
    with pytest.raises(ValueError, match=r"\['words'\].*choose of number, date"):
        find_literals(text, ["words"])


def test_every_decimal_digit_of_unicode_is_read():
    scripts = {chr(i) for i in range(0x110000) if unicodedata.decimal(chr(i), None) == 0}
    assert len(scripts) > 50
    for zero in scripts:
        assert found(f"{chr(ord(zero) + 1)}{zero}{chr(ord(zero) + 5)}") == ["105"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [("៧{}", "number"), ("http://a.org/{}", "address"), ("/usr/{}", "file"), ("ភាសាA{}", "latin")],
)
def test_a_literal_that_is_too_long_stays_with_the_slots_whole(text, kind):
    written, shortest = text.replace("ភាសា", ""), text.count("ភាសា") * 4
    room = MAX_LITERAL_CHARS[kind] - len(written.format(""))
    (literal,) = find_literals(text.format("9" * room))
    assert (literal.kind, literal.end - literal.start, literal.start) == (kind, MAX_LITERAL_CHARS[kind], shortest)
    assert kind not in {literal.kind for literal in find_literals(text.format("9" * (room + 1)))}


HOSTILE = [
    "1", "1,", "1.1", "1-", "1a ", "a.", "a@", "a@a.", "a ", "A. ", "/a", "(", ".", " ", "-", "$", "%1", "1:", "1:00-",
    "1\u00a0000", "၀", "ဝ", "၁ဝ,", "௧க", "፻፼", "፩", "http://", "../", "C:\\", "\u0301", "a\u0301", "_", "\0",
    "2021-01-01T", "\ud800", "http://x.y/(", "1²",
]  # fmt: skip


@pytest.mark.parametrize("part", HOSTILE, ids=ascii)
def test_no_pattern_looks_twice(part):
    """Linear patterns take well under a second for these, quadratic ones more than the bound on any machine."""
    patterns = [value for value in vars(literals).values() if isinstance(value, regex.Pattern)]
    assert len(patterns) > 8
    text = "ក" + part * (60_000 // len(part)) + "a"
    for pattern in patterns:
        deque(pattern.finditer(text, timeout=10), maxlen=0)


def test_hostile_texts_are_read_to_the_end():
    assert found("1" * 10_000) == found("1," * 5_000) == found("a." * 5_000) == []
    assert len(find_literals("ក" * 9_000 + "១ " * 3_000)) == 3_000


PARTS = [
    "ភាសា", "ខ្មែរ", "ကြီး", "၀", "ဝ", "၇", "၁", "၁၀", "န်", "ရ", "ါ", "၊", "౦", "ం", "ప", "൪", "௧", "०", "୦", "ଠ", "៥",
    "២០២១", "٣", "٫", "٬", "٪", "،", "ه", "፲", "፱", "፻", "፼", "፡", "三", "万", "〇", "１", "，", "．", "％", "1", "12",
    "000", "²", "½", "a", "É", "x", "km", "COVID", "T", "http://a.org/", "a@b.com", "www.", ".txt", "C:\\", "/usr", " ",
    "\u00a0", "\n", ".", ",", ":", "-", "–", "−", "+", "=", "/", "×", "%", "$", "€", "៛", "'", "’", "&", "_", "(", ")",
    "~", "@", "°", "\u200b", "\u200f", "\u0301", "\ufe0f", "\ud800", "\0", "😀",
]  # fmt: skip
texts = st.one_of(st.lists(st.sampled_from(PARTS), max_size=30).map("".join), st.text(max_size=60))


@given(text=texts, kinds=st.sets(st.sampled_from(LITERAL_KINDS)))
def test_literals_are_in_order_disjoint_inside_and_in_ascii(text, kinds):
    last = 0
    for literal in find_literals(text, kinds):
        assert last <= literal.start < literal.end <= len(text)
        assert literal.kind in kinds
        assert literal.text
        assert max(len(literal.text), literal.end - literal.start) <= MAX_LITERAL_CHARS[literal.kind]
        if literal.kind != "latin":
            assert regex.sub(r"\p{Sc}", "", literal.text).isascii()
            assert literal.kind in ("address", "file", "calendar") or regex.search("[0-9]", literal.text)
        else:
            assert regex.search(r"\p{Latin}", literal.text)
            assert not regex.search(r"(?![0-9])\p{Nd}", literal.text)
        last = literal.end


def rewritten(text):
    """The passage with its literals as they are written, but for months and weekdays, which are Latin words then."""
    pieces, last = [], 0
    for literal in find_literals(text, set(LITERAL_KINDS) - {"calendar"}):
        pieces += [text[last : literal.start], literal.text]
        last = literal.end
    return "".join([*pieces, text[last:]])


@given(text=st.lists(st.sampled_from([part for part in PARTS if part not in "፲፱፻፼×"]), max_size=30).map("".join))
def test_what_is_written_is_found_again(text):
    """But for names, as digits beside an address are its own once they are ASCII, ፲ beside Latin, and × as a letter."""
    again = rewritten(text)
    assume(not find_literals(text, ["address", "file"]) and not find_literals(again, ["address", "file"]))
    assert found(again) == found(text)


def test_what_is_written_of_the_sentences_is_found_again():
    assert [found(rewritten(text)) for text in SENTENCES] == list(SENTENCES.values())
