"""Sentence plans about places, distances, the weather and the countryside."""

from __future__ import annotations

from .goods import LOOK, SIZE
from .grammar import Template
from .lexicon import ANYONE, BUILDING, CITY, DATE, DAY, EVENING, EVENT, FORENOON, OPEN_PLACE, PLACE, SIGHT
from .quantities import YEAR, number

PLACES = (
    Template(
        """
        places_village
        en: This village in {c} has {n} houses and {m} people.
        km: ភូមិនេះនៅ{c} មានផ្ទះ {n} ខ្នង និងប្រជាជន {m} នាក់។
        sum: The village is in {c}.
        pts: a village in {c} / {n} houses / {m} people
        q: Where is the village? In {c}.
        q: How many houses does the village have? {n} houses.
        q: How many people live in the village? {m} people.
        """,
        c=CITY,
        n=number(30, 120),
        m=number(150, 700),
    ),
    Template(
        """
        places_distance
        en: It is {n} kilometres from {c} to {e}.
        km: ពី{c}ទៅ{e} មានចម្ងាយ {n} គីឡូម៉ែត្រ។
        sum: It is {n} kilometres to {e}.
        pts: from {c} to {e} / {n} kilometres
        q: How far is it from {c} to {e}? {n} kilometres.
        q: How many kilometres is it from {c} to {e}? {n} kilometres.
        """,
        n=number(30, 490),
        c=CITY,
        e=CITY,
    ),
    Template(
        """
        places_metres
        en: {a} is {n} metres from {b}.
        km: {a}ស្ថិតនៅចម្ងាយ {n} ម៉ែត្រពី{b}។
        sum: {a} is near {b}.
        pts: {a} / {n} metres from {b}
        q: How far is {a} from {b}? {n} metres.
        q: What is {n} metres from {b}? {a}.
        """,
        a=PLACE,
        n=number(20, 350, 10),
        b=PLACE,
    ),
    Template(
        """
        places_hours
        en: {a} in {c} opens at {t} and closes at {u}.
        km: {a}នៅ{c} បើកនៅ{t} ហើយបិទនៅ{u}។
        sum: {a} opens at {t}.
        pts: {a} in {c} / it opens at {t} / it closes at {u}
        q: When does {a} open? At {t}.
        q: When does {a} close? At {u}.
        q: Where is {a}? In {c}.
        """,
        a=OPEN_PLACE,
        c=CITY,
        t=FORENOON,
        u=EVENING,
    ),
    Template(
        """
        places_closed
        en: {a} in {c} is closed on {d}.
        km: {a}នៅ{c} បិទទ្វារនៅ{d}។
        sum: {a} is closed on {d}.
        pts: {a} in {c} / closed on {d}
        q: On what day is {a} closed? On {d}.
        q: What is closed on {d}? {a}.
        """,
        a=OPEN_PLACE,
        c=CITY,
        d=DAY,
    ),
    Template(
        """
        places_built
        en: {a} in {c} was built in {y}.
        km: {a}នៅ{c} ត្រូវបានសាងសង់នៅឆ្នាំ{y}។
        sum: {a} was built in {y}.
        pts: {a} in {c} / built in {y}
        q: When was {a} built? In {y}.
        q: What was built in {c} in {y}? {a}.
        """,
        a=BUILDING,
        c=CITY,
        y=YEAR,
    ),
    Template(
        """
        places_power
        en: The power plant in {c} produces {n} megawatts of electricity.
        km: រោងចក្រអគ្គិសនីនៅ{c} ផលិតអគ្គិសនីបាន {n} មេហ្គាវ៉ាត់។
        sum: The power plant produces electricity.
        pts: the power plant in {c} / {n} megawatts of electricity
        q: How many megawatts does the power plant produce? {n} megawatts.
        q: Where is the power plant? In {c}.
        q: What does the power plant produce? Electricity.
        """,
        c=CITY,
        n=number(5, 400),
    ),
    Template(
        """
        places_rain
        en: It rained in {c} for {n} hours on {d}.
        km: ភ្លៀងបានធ្លាក់នៅ{c} អស់រយៈពេល {n} ម៉ោង នៅ{d}។
        sum: It rained in {c}.
        pts: it rained in {c} / for {n} hours / on {d}
        q: Where did it rain? In {c}.
        q: How many hours did it rain? {n} hours.
        q: On what day did it rain? On {d}.
        """,
        c=CITY,
        n=number(2, 12),
        d=DAY,
    ),
    Template(
        """
        places_temperature
        en: Today it is {n} degrees in {c}, and tomorrow it will be {m} degrees.
        km: ថ្ងៃនេះសីតុណ្ហភាពនៅ{c}គឺ {n} អង្សា ហើយថ្ងៃស្អែកនឹងមាន {m} អង្សា។
        sum: Today it is {n} degrees in {c}.
        pts: today it is {n} degrees in {c} / tomorrow it will be {m} degrees
        q: How many degrees is it in {c} today? {n} degrees.
        q: How many degrees will it be tomorrow? {m} degrees.
        """,
        n=number(19, 39),
        c=CITY,
        m=number(19, 39),
    ),
    Template(
        """
        places_near_question
        en: Is there {a.a} near {b} in {c}?
        km: តើមាន{a}នៅជិត{b}ក្នុង{c}ដែរឬទេ?
        sum: The question is about {a.a} in {c}.
        pts: this is a question about {a.a} / near {b} / in {c}
        q: What does the question ask about? {a.a}.
        q: Which town is the question about? {c}.
        """,
        a=PLACE,
        b=PLACE,
        c=CITY,
    ),
    Template(
        """
        places_none_passage
        en: There is no {a.n} in this village. The nearest one is in {c}, {n} kilometres away.
        km: នៅក្នុងភូមិនេះគ្មាន{a}ទេ។ {a}ដែលនៅជិតបំផុតស្ថិតនៅ{c} ចម្ងាយ {n} គីឡូម៉ែត្រពីទីនេះ។
        sum: The nearest {a.n} is in {c}.
        pts: there is no {a.n} in this village / the nearest {a.n} is in {c} / {n} kilometres away
        q: Where is the nearest {a.n}? In {c}.
        q: How far away is the nearest {a.n}? {n} kilometres.
        q: Is there {a.a} in this village? No, there is no {a.n} in this village.
        """,
        a=PLACE,
        c=CITY,
        n=number(3, 60),
    ),
    Template(
        """
        places_road
        en: The road from {c} to {e} is {n} kilometres long and was repaired in {y}.
        km: ផ្លូវពី{c}ទៅ{e} មានប្រវែង {n} គីឡូម៉ែត្រ ហើយត្រូវបានជួសជុលនៅឆ្នាំ{y}។
        sum: The road was repaired in {y}.
        pts: the road from {c} to {e} / {n} kilometres long / repaired in {y}
        q: How long is the road? {n} kilometres.
        q: When was the road repaired? In {y}.
        q: What was repaired in {y}? The road from {c} to {e}.
        """,
        c=CITY,
        e=CITY,
        n=number(30, 490),
        y=YEAR,
    ),
    Template(
        """
        places_visitors
        en: {a} in {c} received {n} visitors on {d}.
        km: {a}នៅ{c} បានទទួលភ្ញៀវ {n} នាក់ នៅ{d}។
        sum: {a} received visitors.
        pts: {a} in {c} / {n} visitors / on {d}
        q: How many visitors did {a} receive? {n} visitors.
        q: Where is {a}? In {c}.
        q: On what day did {a} receive {n} visitors? On {d}.
        """,
        a=SIGHT,
        c=CITY,
        n=number(20, 900),
        d=DAY,
    ),
    Template(
        """
        places_trees
        en: The villagers in {c} planted {n} trees near {a}.
        km: អ្នកភូមិនៅ{c} បានដាំដើមឈើ {n} ដើមនៅជិត{a}។
        sum: The villagers planted trees.
        pts: the villagers in {c} planted {n} trees / near {a}
        q: How many trees did the villagers plant? {n} trees.
        q: Where did the villagers plant trees? Near {a}.
        q: Who planted trees near {a}? The villagers in {c}.
        """,
        c=CITY,
        n=number(10, 600),
        a=PLACE,
    ),
    Template(
        """
        places_fields
        en: {p} has {n} hectares of rice fields in {c}.
        km: {p.s}មានស្រែ {n} ហិកតានៅ{c}។
        sum: {p} has rice fields.
        pts: {p} has rice fields in {c} / {n} hectares
        q: How many hectares of rice fields does {p} have? {n} hectares.
        q: Where are the rice fields? In {c}.
        q: Who has rice fields in {c}? {p}.
        """,
        p=ANYONE,
        n=number(2, 30),
        c=CITY,
    ),
    Template(
        """
        places_event
        en: {a} will take place in {c} on {d}.
        km: {a}នឹងប្រព្រឹត្តទៅនៅ{c} នៅ{d}។
        sum: {a} will take place in {c}.
        pts: {a} / in {c} / on {d}
        q: What will take place in {c}? {a}.
        q: Where will {a} take place? In {c}.
        q: When will {a} take place? On {d}.
        """,
        a=EVENT,
        c=CITY,
        d=DATE,
    ),
    Template(
        """
        places_water
        en: {a} in {c} uses {n} litres of water a day.
        km: {a}នៅ{c} ប្រើទឹក {n} លីត្រក្នុងមួយថ្ងៃ។
        sum: {a} uses {n} litres of water.
        pts: {a} in {c} / {n} litres of water a day
        q: How many litres of water does {a} use a day? {n} litres.
        q: Where is {a}? In {c}.
        """,
        a=BUILDING,
        c=CITY,
        n=number(50, 950, 5),
    ),
    Template(
        """
        places_park_passage
        en: The park in {c} is {a} and {b}. It has {n} trees and {m} chairs.
        km: សួនច្បារនៅ{c} {a} និង{b}។ វាមានដើមឈើ {n} ដើម និងកៅអីចំនួន {m}។
        sum: The park in {c} is {a}.
        pts: the park in {c} is {a} and {b} / {n} trees / {m} chairs
        q: How many trees does the park have? {n} trees.
        q: How many chairs does the park have? {m} chairs.
        q: Where is the park? In {c}.
        """,
        c=CITY,
        a=SIZE,
        b=LOOK,
        n=number(20, 300),
        m=number(5, 90),
    ),
)
