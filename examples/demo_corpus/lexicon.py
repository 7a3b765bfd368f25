"""Two-sided words of the demo grammar, grouped into the slots that templates use.

Khmer conventions followed here: a title is separated from the name by a space, a name that stands as the subject is
followed by one (form `s`), a noun precedes its number, which precedes its classifier (form `cl`).
"""

from __future__ import annotations

from .grammar import Choice, Word, khmer_digits

VOWELS = "aeiou"
_WITH_A = ("university",)


def with_article(noun: str) -> str:
    """`"engineer"` to `"an engineer"`."""
    vowel = noun[0] in VOWELS and not noun.startswith(_WITH_A)
    return f"{'an' if vowel else 'a'} {noun}"


def table(text: str) -> list[list[str]]:
    """Rows of a block of lines with `|` between columns."""
    return [[cell.strip() for cell in line.split("|")] for line in text.strip().splitlines()]


def paired(kind: str, text: str) -> list[Word]:
    """Plain words: English | Khmer."""
    return [Word(en, km, key=f"{kind}:{en}") for en, km in table(text)]


# -- people --

_MALE = table("""
    Sokha | សុខា
    Dara | ដារ៉ា
    Visal | វិសាល
    Bora | បូរ៉ា
    Piseth | ពិសិដ្ឋ
    Samnang | សំណាង
    Rithy | រិទ្ធី
    Sovann | សុវណ្ណ
    Vuthy | វុទ្ធី
    Narith | ណារិទ្ធ
    Kosal | កុសល
    Veasna | វាសនា
    Heng | ហេង
    Chamroeun | ចម្រើន
    Sarath | សារ៉ាត់
    Phirun | ភិរុណ
    Sambath | សម្បត្តិ
    Ponlok | ពន្លក
    Setha | សេដ្ឋា
    Vibol | វិបុល
    Thearith | ធារិទ្ធ
    Mengly | ម៉េងលី
    Kimsan | គឹមសាន
    Ratha | រដ្ឋា
""")
_FEMALE = table("""
    Bopha | បុប្ផា
    Sophea | សុភា
    Chantha | ចាន់ថា
    Thida | ធីតា
    Kalyan | កល្យាណ
    Sreymom | ស្រីមុំ
    Mealea | មាលា
    Neary | នារី
    Tevy | ទេវី
    Socheata | សុជាតា
    Kannika | កន្និកា
    Reaksmey | រស្មី
    Leakhena | លក្ខិណា
    Davy | ដាវី
    Phalla | ផល្លា
    Vannary | វណ្ណារី
    Sreypov | ស្រីពៅ
    Sokunthea | សុគន្ធា
    Romdoul | រំដួល
    Sothea | សុធា
    Chenda | ចិន្ដា
    Pisey | ពិសី
    Mony | មុន្នី
    Sopheap | សុភាព
""")
_HE = {"he": "he", "his": "his", "him": "him"}
_SHE = {"he": "she", "his": "her", "him": "her"}


def _named(names: list[list[str]], pronouns: dict[str, str], en_title: str = "", km_title: str = "") -> list[Word]:
    words = []
    for en, km in names:
        full_en, full_km = f"{en_title} {en}".strip(), f"{km_title} {km}".strip()
        words.append(Word(full_en, full_km, {**pronouns, "s": f"{full_km} "}, key=f"name:{en}"))
    return words


_MEN, _WOMEN = _named(_MALE, _HE), _named(_FEMALE, _SHE)
_TEACHERS = _named(_MALE, _HE, "Teacher", "លោកគ្រូ") + _named(_FEMALE, _SHE, "Teacher", "អ្នកគ្រូ")
_DOCTORS = _named(_MALE, _HE, "Doctor", "វេជ្ជបណ្ឌិត") + _named(_FEMALE, _SHE, "Doctor", "វេជ្ជបណ្ឌិត")
_FORMAL = _named(_MALE, _HE, "Mr.", "លោក") + _named(_FEMALE, _SHE, "Mrs.", "លោកស្រី")
_FAMILIAR = [
    *_named(_MALE[:12], _HE, "Brother", "បង"),
    *_named(_FEMALE[:12], _SHE, "Sister", "បង"),
    *_named(_MALE[12:], _HE, "Uncle", "ពូ"),
    *_named(_FEMALE[12:], _SHE, "Aunt", "មីង"),
]

_KIN = table("""
    father | ឪពុក | m
    mother | ម្ដាយ | f
    older brother | បងប្រុស | m
    older sister | បងស្រី | f
    younger brother | ប្អូនប្រុស | m
    younger sister | ប្អូនស្រី | f
    grandfather | ជីតា | m
    grandmother | ជីដូន | f
    uncle | ពូ | m
    aunt | មីង | f
""")
KIN = Choice.of([Word(en, km, _HE if sex == "m" else _SHE, key=f"kin:{en}") for en, km, sex in _KIN])

_JOBS = table("""
    farmer | កសិករ
    teacher | គ្រូបង្រៀន
    doctor | វេជ្ជបណ្ឌិត
    engineer | វិស្វករ
    lawyer | មេធាវី
    accountant | គណនេយ្យករ
    cook | ចុងភៅ
    driver | អ្នកបើកបរ
    carpenter | ជាងឈើ
    tailor | ជាងកាត់ដេរ
    translator | អ្នកបកប្រែ
    journalist | អ្នកកាសែត
    dentist | ទន្តពេទ្យ
    mechanic | ជាងម៉ាស៊ីន
    tour guide | មគ្គុទ្ទេសក៍ទេសចរណ៍
""")
JOB = Choice.of([Word(en, km, {"a": with_article(en), "pl": f"{en}s"}, key=f"job:{en}") for en, km in _JOBS])

_ROLES = [
    *[Word(f"the {en}", km, {"s": km}, key=f"job:{en}") for en, km in _JOBS],
    Word("the nurse", "គិលានុបដ្ឋាយិកា", {"s": "គិលានុបដ្ឋាយិកា"}, key="job:nurse"),
    Word("the villager", "អ្នកភូមិ", {"s": "អ្នកភូមិ"}, key="job:villager"),
]
_RELATIVES = [
    Word(f"{name.en}'s {kin.en}", f"{kin.km}របស់{name.km}", {**kin.forms, "s": f"{kin.km}របស់{name.km} "}, key=name.key)
    for name in _MEN[:8] + _WOMEN[:8]
    for kin in KIN.words
]

NAME = Choice.of(_MEN + _WOMEN)
MAN, WOMAN = Choice.of(_MEN), Choice.of(_WOMEN)
TEACHER = Choice.of(_TEACHERS)
DOCTOR = Choice.of(_DOCTORS)
PERSON = Choice((_MEN + _WOMEN, 6), (_FORMAL, 3), (_FAMILIAR, 2))
"""Somebody with a name: forms he, his, him, s."""
STAFF = Choice((_MEN + _WOMEN, 4), (_FORMAL, 5))
"""Somebody at work."""
ANYONE = Choice((_MEN + _WOMEN, 5), (_FORMAL, 2), (_FAMILIAR, 1), (_ROLES, 2), (_RELATIVES, 2))
"""Somebody, with or without a name: form s only."""

# -- places and time --

CITY = Choice.of(
    paired(
        "city",
        """
    Phnom Penh | ភ្នំពេញ
    Siem Reap | សៀមរាប
    Battambang | បាត់ដំបង
    Kampot | កំពត
    Takeo | តាកែវ
    Kampong Cham | កំពង់ចាម
    Kampong Thom | កំពង់ធំ
    Kampong Chhnang | កំពង់ឆ្នាំង
    Kampong Speu | កំពង់ស្ពឺ
    Prey Veng | ព្រៃវែង
    Pursat | ពោធិ៍សាត់
    Kratie | ក្រចេះ
    Stung Treng | ស្ទឹងត្រែង
    Koh Kong | កោះកុង
    Mondulkiri | មណ្ឌលគិរី
    Ratanakiri | រតនគិរី
    Sihanoukville | ក្រុងព្រះសីហនុ
    Kep | កែប
    Pailin | ប៉ៃលិន
    Svay Rieng | ស្វាយរៀង
    Preah Vihear | ព្រះវិហារ
    Banteay Meanchey | បន្ទាយមានជ័យ
    """,
    )
)
COUNTRY = Choice.of(
    paired(
        "country",
        """
    Thailand | ថៃ
    Vietnam | វៀតណាម
    Laos | ឡាវ
    Japan | ជប៉ុន
    China | ចិន
    Korea | កូរ៉េ
    France | បារាំង
    Australia | អូស្ត្រាលី
    Singapore | សិង្ហបុរី
    Malaysia | ម៉ាឡេស៊ី
    """,
    )
)


def _places(text: str) -> list[Word]:
    return [Word(f"the {en}", km, {"a": with_article(en), "n": en}, key=f"place:{en}") for en, km in table(text)]


_OPEN = _places("""
    bank | ធនាគារ
    library | បណ្ណាល័យ
    museum | សារមន្ទីរ
    pharmacy | ឱសថស្ថាន
    post office | ប្រៃសណីយ៍
    restaurant | ភោជនីយដ្ឋាន
    coffee shop | ហាងកាហ្វេ
    bookshop | ហាងលក់សៀវភៅ
    bakery | ហាងនំប៉័ង
    supermarket | ផ្សារទំនើប
    swimming pool | អាងហែលទឹក
""")
_BUILDINGS = _places("""
    school | សាលារៀន
    hospital | មន្ទីរពេទ្យ
    hotel | សណ្ឋាគារ
    factory | រោងចក្រ
    pagoda | វត្ត
    university | សាកលវិទ្យាល័យ
    stadium | ពហុកីឡដ្ឋាន
    bus station | ស្ថានីយរថយន្តក្រុង
    police station | ប៉ុស្តិ៍ប៉ូលិស
    market | ផ្សារ
""")
OPEN_PLACE = Choice.of(_OPEN)
BUILDING = Choice.of(_BUILDINGS[:8] + _OPEN[:3])
PLACE = Choice.of(_OPEN + _BUILDINGS)
SIGHT = Choice.of(
    _places("""
    museum | សារមន្ទីរ
    zoo | សួនសត្វ
    pagoda | វត្ត
    waterfall | ទឹកជ្រោះ
    old temple | ប្រាសាទបុរាណ
    beach | ឆ្នេរ
    """)
)
MARKET = Choice.of(
    paired(
        "market",
        """
    the Central Market | ផ្សារធំថ្មី
    Olympic Market | ផ្សារអូឡាំពិក
    Orussey Market | ផ្សារអូរឫស្សី
    the Old Market | ផ្សារចាស់
    the night market | ផ្សាររាត្រី
    the village market | ផ្សារភូមិ
    the supermarket | ផ្សារទំនើប
    """,
    )
)
WORKPLACE = Choice.of(_BUILDINGS[:4] + _OPEN[:7])
EVENT = Choice.of(
    paired(
        "event",
        """
    the book fair | ពិព័រណ៍សៀវភៅ
    the art show | ពិព័រណ៍សិល្បៈ
    the concert | ការប្រគុំតន្ត្រី
    the football match | ការប្រកួតបាល់ទាត់
    the boat race | ការប្រណាំងទូក
    """,
    )
)

_DAYS = table("""
    Monday | ថ្ងៃចន្ទ
    Tuesday | ថ្ងៃអង្គារ
    Wednesday | ថ្ងៃពុធ
    Thursday | ថ្ងៃព្រហស្បតិ៍
    Friday | ថ្ងៃសុក្រ
    Saturday | ថ្ងៃសៅរ៍
    Sunday | ថ្ងៃអាទិត្យ
""")
DAY = Choice.of([Word(en, km, key=f"day:{en}") for en, km in _DAYS])
WEEKDAY = Choice.of(DAY.words[:6])
"""Monday to Saturday: a day of school and work."""
_MONTHS = table("""
    January | មករា | 31
    February | កុម្ភៈ | 28
    March | មីនា | 31
    April | មេសា | 30
    May | ឧសភា | 31
    June | មិថុនា | 30
    July | កក្កដា | 31
    August | សីហា | 31
    September | កញ្ញា | 30
    October | តុលា | 31
    November | វិច្ឆិកា | 30
    December | ធ្នូ | 31
""")
MONTH = Choice.of([Word(en, km) for en, km, _ in _MONTHS])
DATE = Choice(
    (
        [
            Word(f"{day} {en}", f"ថ្ងៃទី{khmer_digits(str(day))} ខែ{km}")
            for en, km, days in _MONTHS
            for day in range(1, int(days) + 1)
        ],
        1,
    )
)
"""Day and month; a year is a slot of its own."""
PAST = Choice(
    (
        paired(
            "past",
            """
    yesterday | កាលពីម្សិលមិញ
    last week | កាលពីសប្ដាហ៍មុន
    last month | កាលពីខែមុន
    last year | កាលពីឆ្នាំមុន
    """,
        ),
        2,
    ),
    ([Word(f"last {en}", f"កាលពី{km}មុន") for en, km in _DAYS], 1),
    ([Word(f"{n} days ago", f"កាលពី {khmer_digits(str(n))} ថ្ងៃមុន") for n in range(2, 10)], 1),
)
FUTURE_DAY = Choice(
    ([Word("tomorrow", "នៅថ្ងៃស្អែក")], 1),
    ([Word(f"next {en}", f"នៅ{km}ក្រោយ") for en, km in _DAYS], 2),
)


def _clock(hours: range, half: str, part: str) -> list[Word]:
    words = []
    for hour in hours:
        for minute in (0, 10, 15, 20, 30, 40, 45, 50):
            en = f"{hour}:{minute:02d} {half}" if minute else f"{hour} {half}"
            km_hour, km_minute = khmer_digits(str(hour)), khmer_digits(f"{minute:02d}")
            km = f"ម៉ោង {km_hour}:{km_minute} នាទី{part}" if minute else f"ម៉ោង {km_hour} {part}"
            words.append(Word(en, km, key=f"time:{en}"))
    return words


_MORNING, _AFTERNOON = _clock(range(5, 12), "a.m.", "ព្រឹក"), _clock(range(1, 5), "p.m.", "រសៀល")
_EVENING, _NIGHT = _clock(range(5, 7), "p.m.", "ល្ងាច"), _clock(range(7, 11), "p.m.", "យប់")
EARLY = Choice.of(_MORNING[:24])
"""5 to 7:50 a.m."""
FORENOON = Choice.of(_MORNING[16:40])
"""7 to 9:50 a.m."""
LATE_MORNING = Choice.of(_MORNING[40:])
"""10 to 11:50 a.m."""
OFFICE_TIME = Choice((_MORNING[16:], 1), (_AFTERNOON, 1))
AFTERNOON = Choice.of(_AFTERNOON)
EVENING = Choice.of(_EVENING + _NIGHT[:16])
NIGHT = Choice.of(_NIGHT[8:])
TIME = Choice((_MORNING, 2), (_AFTERNOON, 2), (_EVENING, 1), (_NIGHT, 1))
