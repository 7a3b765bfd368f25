"""Two-sided words for things, subjects, activities and illnesses (`lexicon` has people, places, times and numbers)."""

from __future__ import annotations

from .grammar import Choice, Word
from .lexicon import paired, table, with_article

_FOODS = table("""
    rice | អង្ករ
    pork | សាច់ជ្រូក
    beef | សាច់គោ
    chicken | សាច់មាន់
    fish | ត្រី
    sugar | ស្ករ
    salt | អំបិល
    garlic | ខ្ទឹមស
    corn | ពោត
    shrimp | បង្គា
    durian | ធុរេន
    mangoes | ស្វាយ
    bananas | ចេក
    oranges | ក្រូច
    grapes | ទំពាំងបាយជូរ
    tomatoes | ប៉េងប៉ោះ
    onions | ខ្ទឹមបារាំង
    potatoes | ដំឡូងបារាំង
    carrots | ការ៉ុត
    cucumbers | ត្រសក់
    peanuts | សណ្ដែកដី
""")


def _food(en: str, km: str) -> Word:
    plural = en.endswith("s")
    return Word(
        en,
        km,
        {"cost": "cost" if plural else "costs", "is": "are" if plural else "is", "does": "do" if plural else "does"},
        key=f"food:{en}",
    )


FOOD = Choice.of([_food(en, km) for en, km in _FOODS])
"""Sold by the kilogram: forms cost, is."""
FRESH_FOOD = Choice.of([_food(en, km) for en, km in _FOODS if en not in ("rice", "sugar", "salt", "peanuts")])
EATEN = Choice.of([_food(en, km) for en, km in _FOODS if en in ("pork", "beef", "sugar", "salt", "shrimp", "durian")])
LIQUID = Choice.of(
    paired(
        "liquid",
        """
    milk | ទឹកដោះគោ
    cooking oil | ប្រេងឆា
    petrol | សាំង
    fish sauce | ទឹកត្រី
    palm juice | ទឹកត្នោត
    honey | ទឹកឃ្មុំ
    """,
    )
)


def _things(text: str) -> list[Word]:
    """Countable things: singular | plural | Khmer | classifier."""
    return [
        Word(en, km, {"pl": plural, "a": with_article(en), "cl": classifier}, key=f"thing:{en}")
        for en, plural, km, classifier in table(text)
    ]


STATIONERY = Choice.of(
    _things("""
    pen | pens | ប៊ិច | ដើម
    pencil | pencils | ខ្មៅដៃ | ដើម
    book | books | សៀវភៅ | ក្បាល
    notebook | notebooks | សៀវភៅសរសេរ | ក្បាល
    dictionary | dictionaries | វចនានុក្រម | ក្បាល
    map | maps | ផែនទី | សន្លឹក
    """)
)
MACHINE = Choice.of(
    _things("""
    computer | computers | កុំព្យូទ័រ | គ្រឿង
    phone | phones | ទូរស័ព្ទ | គ្រឿង
    printer | printers | ម៉ាស៊ីនបោះពុម្ព | គ្រឿង
    television | televisions | ទូរទស្សន៍ | គ្រឿង
    camera | cameras | ម៉ាស៊ីនថត | គ្រឿង
    fan | fans | កង្ហារ | គ្រឿង
    refrigerator | refrigerators | ទូទឹកកក | គ្រឿង
    washing machine | washing machines | ម៉ាស៊ីនបោកខោអាវ | គ្រឿង
    """)
)
OFFICE_MACHINE = Choice.of(MACHINE.words[:6])
RIDE = Choice.of(
    _things("""
    motorbike | motorbikes | ម៉ូតូ | គ្រឿង
    bicycle | bicycles | កង់ | គ្រឿង
    car | cars | រថយន្ត | គ្រឿង
    """)
)
FOR_SALE = Choice((MACHINE.words, 3), (RIDE.words[:2], 1))
SOLD = Choice((MACHINE.words, 2), (RIDE.words, 1), (STATIONERY.words, 2))
ANIMAL = Choice.of(
    _things("""
    cow | cows | គោ | ក្បាល
    buffalo | buffaloes | ក្របី | ក្បាល
    pig | pigs | ជ្រូក | ក្បាល
    chicken | chickens | មាន់ | ក្បាល
    duck | ducks | ទា | ក្បាល
    """)
)
FRUIT = Choice.of(
    _things("""
    watermelon | watermelons | ឪឡឹក | ផ្លែ
    pineapple | pineapples | ម្នាស់ | ផ្លែ
    coconut | coconuts | ដូង | ផ្លែ
    papaya | papayas | ល្ហុង | ផ្លែ
    """)
)
DOCUMENT = Choice.of(
    _things("""
    report | reports | របាយការណ៍ | ច្បាប់
    letter | letters | លិខិត | ច្បាប់
    contract | contracts | កិច្ចសន្យា | ច្បាប់
    document | documents | ឯកសារ | ច្បាប់
    invoice | invoices | វិក្កយបត្រ | ច្បាប់
    """)
)
CLOTHES = Choice.of(
    _things("""
    shirt | shirts | អាវ | -
    dress | dresses | រ៉ូប | -
    hat | hats | មួក | -
    bag | bags | កាបូប | -
    scarf | scarves | កន្សែង | -
    """)
)
COLOUR = Choice(
    (
        [
            Word(en, f"ពណ៌{km}", {"a": with_article(en)}, key=f"colour:{en}")
            for en, km in table("""
    red | ក្រហម
    blue | ខៀវ
    white | ស
    black | ខ្មៅ
    green | បៃតង
    yellow | លឿង
    """)
        ],
        1,
    )
)
DISH = Choice.of(
    _things("""
    bowl of noodle soup | bowls of noodle soup | គុយទាវ | ចាន
    plate of fried rice | plates of fried rice | បាយឆា | ចាន
    plate of fried noodles | plates of fried noodles | មីឆា | ចាន
    bowl of rice porridge | bowls of rice porridge | បបរ | ចាន
    bowl of sour soup | bowls of sour soup | សម្លម្ជូរ | ចាន
    """)
)
DRINK = Choice.of(
    _things("""
    cup of coffee | cups of coffee | កាហ្វេ | កែវ
    cup of tea | cups of tea | តែ | កែវ
    glass of orange juice | glasses of orange juice | ទឹកក្រូច | កែវ
    glass of milk | glasses of milk | ទឹកដោះគោ | កែវ
    bottle of water | bottles of water | ទឹកបរិសុទ្ធ | ដប
    """)
)
MEAL = Choice.of(
    paired(
        "meal",
        """
    fried rice | បាយឆា
    noodle soup | គុយទាវ
    sour soup | សម្លម្ជូរ
    chicken curry | ការីសាច់មាន់
    fish amok | អាម៉ុកត្រី
    grilled fish | ត្រីអាំង
    rice porridge | បបរ
    """,
    )
)
MEDICINE = Choice.of(
    paired(
        "medicine",
        """
    paracetamol | ប៉ារ៉ាសេតាមុល
    vitamin C | វីតាមីនសេ
    cough medicine | ថ្នាំក្អក
    stomach medicine | ថ្នាំឈឺពោះ
    """,
    )
)

# -- school, activities, health --

SCIENCE = Choice.of(
    paired(
        "subject",
        """
    mathematics | គណិតវិទ្យា
    physics | រូបវិទ្យា
    chemistry | គីមីវិទ្យា
    biology | ជីវវិទ្យា
    history | ប្រវត្តិវិទ្យា
    geography | ភូមិវិទ្យា
    music | តន្ត្រី
    """,
    )
)
LANGUAGE = Choice.of(
    paired(
        "subject",
        """
    English | ភាសាអង់គ្លេស
    Khmer | ភាសាខ្មែរ
    French | ភាសាបារាំង
    Chinese | ភាសាចិន
    Japanese | ភាសាជប៉ុន
    Thai | ភាសាថៃ
    """,
    )
)
SUBJECT = Choice.of(SCIENCE.words + LANGUAGE.words)
HOBBY = Choice.of(
    paired(
        "hobby",
        """
    read books | អានសៀវភៅ
    play football | លេងបាល់ទាត់
    play volleyball | លេងបាល់ទះ
    play the guitar | លេងហ្គីតា
    listen to music | ស្ដាប់តន្ត្រី
    watch films | មើលភាពយន្ត
    cook | ធ្វើម្ហូប
    swim | ហែលទឹក
    sing | ច្រៀង
    dance | រាំ
    draw pictures | គូររូប
    take photos | ថតរូប
    ride a bicycle | ជិះកង់
    go fishing | ទៅស្ទូចត្រី
    grow flowers | ដាំផ្កា
    drink coffee | ផឹកកាហ្វេ
    write stories | សរសេររឿង
    """,
    )
)
ADJECTIVE = Choice(
    (
        [
            Word(en, km, {"a": with_article(en)}, key=f"adjective:{en}")
            for en, km in table("""
    large | ធំ
    small | តូច
    new | ថ្មី
    old | ចាស់
    clean | ស្អាត
    quiet | ស្ងាត់
    beautiful | ស្រស់ស្អាត
    """)
        ],
        1,
    )
)
SIZE, LOOK = Choice.of(ADJECTIVE.words[:4]), Choice.of(ADJECTIVE.words[4:])
SYMPTOM = Choice.of(
    paired(
        "symptom",
        """
    a headache | ឈឺក្បាល
    a stomach ache | ឈឺពោះ
    a toothache | ឈឺធ្មេញ
    a sore throat | ឈឺបំពង់ក
    back pain | ឈឺខ្នង
    a fever | គ្រុនក្ដៅ
    a cough | ក្អក
    a cold | ផ្ដាសាយ
    """,
    )
)
DISEASE = Choice.of(
    paired(
        "disease",
        """
    diabetes | ជំងឺទឹកនោមផ្អែម
    high blood pressure | ជំងឺលើសឈាម
    heart disease | ជំងឺបេះដូង
    kidney disease | ជំងឺតម្រងនោម
    """,
    )
)
VEHICLE = Choice(
    (
        [
            Word(en, km, {"pl": plural}, key=f"vehicle:{en}")
            for en, plural, km in table("""
    bus | buses | រថយន្តក្រុង
    taxi | taxis | តាក់ស៊ី
    train | trains | រថភ្លើង
    boat | boats | កាណូត
    """)
        ],
        1,
    )
)
TICKETED = Choice.of([word for word in VEHICLE.words if word.en != "taxi"])
TRANSPORT = Choice(
    (VEHICLE.words[:3], 3),
    ([Word("car", "រថយន្ត", key="vehicle:car"), Word("motorbike", "ម៉ូតូ", key="vehicle:motorbike")], 2),
)
REASON = Choice.of(
    paired(
        "reason",
        """
    it rained heavily | ភ្លៀងធ្លាក់ខ្លាំង
    the road was flooded | ផ្លូវលិចទឹក
    the bus broke down | រថយន្តក្រុងខូច
    there were no tickets left | អស់សំបុត្រ
    """,
    )
)
