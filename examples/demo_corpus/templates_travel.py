"""Sentence plans about travel, hotels and transport."""

from __future__ import annotations

from .goods import REASON, TICKETED, TRANSPORT, VEHICLE
from .grammar import Template
from .lexicon import AFTERNOON, ANYONE, CITY, COUNTRY, DATE, DAY, EVENING, FORENOON, MONTH, PAST, PERSON, PLACE, TIME
from .quantities import dollars, number

TRAVEL = (
    Template(
        """
        travel_went
        en: {p} went to {c} by {v} {w}.
        km: {p.s}បានធ្វើដំណើរទៅ{c}តាម{v}{w}។
        sum: {p} went to {c}.
        pts: {p} went to {c} / by {v} / {w}
        q: Where did {p} go? To {c}.
        q: How did {p} go to {c}? By {v}.
        q: When did {p} go to {c}? {w}.
        q: Who went to {c}? {p}.
        """,
        p=ANYONE,
        c=CITY,
        v=TRANSPORT,
        w=PAST,
    ),
    Template(
        """
        travel_ticket
        en: A {v} ticket from {c} to {e} costs {a}.
        km: សំបុត្រ{v}ពី{c}ទៅ{e} មានតម្លៃ {a}។
        sum: A {v} ticket to {e} costs {a}.
        pts: a {v} ticket / from {c} to {e} / it costs {a}
        q: How much does a {v} ticket to {e} cost? {a}.
        q: Which ticket costs {a}? A {v} ticket from {c} to {e}.
        """,
        v=TICKETED,
        c=CITY,
        e=CITY,
        a=dollars(4, 35),
    ),
    Template(
        """
        travel_timetable
        en: The {v} leaves {c} at {t} and arrives in {e} at {u}.
        km: {v}ចេញពី{c}នៅ{t} ហើយទៅដល់{e}នៅ{u}។
        sum: The {v} goes from {c} to {e}.
        pts: the {v} leaves {c} at {t} / it arrives in {e} at {u}
        q: When does the {v} leave {c}? At {t}.
        q: When does the {v} arrive in {e}? At {u}.
        q: Where does the {v} go? To {e}.
        """,
        v=VEHICLE,
        c=CITY,
        t=FORENOON,
        e=CITY,
        u=AFTERNOON,
    ),
    Template(
        """
        travel_hotel
        en: {p} booked {n} rooms for {m} nights at a hotel in {c}.
        km: {p.s}បានកក់បន្ទប់ចំនួន {n} រយៈពេល {m} យប់ នៅសណ្ឋាគារមួយក្នុង{c}។
        sum: {p} booked rooms at a hotel.
        pts: {p} booked {n} rooms / for {m} nights / at a hotel in {c}
        q: How many rooms did {p} book? {n} rooms.
        q: For how many nights did {p} book rooms? {m} nights.
        q: Where is the hotel? In {c}.
        q: Who booked {n} rooms? {p}.
        """,
        p=ANYONE,
        n=number(2, 12),
        m=number(2, 14),
        c=CITY,
    ),
    Template(
        """
        travel_hotel_price
        en: A room at this hotel in {c} costs {a} a night, and breakfast costs {b}.
        km: បន្ទប់នៅសណ្ឋាគារនេះក្នុង{c} មានតម្លៃ {a} ក្នុងមួយយប់ ហើយអាហារពេលព្រឹកមានតម្លៃ {b}។
        sum: A room costs {a} a night.
        pts: a hotel in {c} / a room costs {a} a night / breakfast costs {b}
        q: How much does a room cost a night? {a}.
        q: How much does breakfast cost? {b}.
        q: Where is the hotel? In {c}.
        """,
        c=CITY,
        a=dollars(15, 120),
        b=dollars(2, 12),
    ),
    Template(
        """
        travel_did_not_go
        en: {p} did not go to {c} {w} because {r}.
        km: {p.s}មិនបានទៅ{c} {w}ទេ ព្រោះ{r}។
        sum: {p} did not go to {c}.
        pts: {p} did not go to {c} {w} / {r}
        q: Why did {p} not go to {c}? Because {r}.
        q: Where did {p} not go? To {c}.
        q: Did {p} go to {c}? No, {p} did not go to {c}.
        """,
        p=ANYONE,
        c=CITY,
        w=PAST,
        r=REASON,
    ),
    Template(
        """
        travel_flight
        en: Flight {n} to {c} leaves at {t} from gate {g}.
        km: ជើងហោះហើរលេខ {n} ទៅប្រទេស{c} ចេញដំណើរនៅ{t} ពីច្រកលេខ {g}។
        sum: Flight {n} goes to {c}.
        pts: flight {n} to {c} / it leaves at {t} / from gate {g}
        q: When does flight {n} leave? At {t}.
        q: Which gate does flight {n} leave from? Gate {g}.
        q: Where does flight {n} go? To {c}.
        """,
        n=number(100, 990),
        c=COUNTRY,
        t=TIME,
        g=number(2, 20),
    ),
    Template(
        """
        travel_leave_question
        en: What time does the {v} from {c} to {e} leave on {d}?
        km: តើ{v}ពី{c}ទៅ{e} ចេញដំណើរម៉ោងប៉ុន្មាននៅ{d}?
        sum: The question is about the {v} to {e}.
        pts: this is a question about the {v} / from {c} to {e} / on {d}
        q: What does the question ask? It asks what time the {v} leaves.
        q: Which day is the question about? {d}.
        q: Where does the {v} go? To {e}.
        """,
        v=VEHICLE,
        c=CITY,
        e=CITY,
        d=DAY,
    ),
    Template(
        """
        travel_far_question
        en: How far is it from {a} to {b} in {c}?
        km: តើពី{a}ទៅ{b}នៅ{c} មានចម្ងាយប៉ុន្មាន?
        sum: The question is how far it is to {b}.
        pts: this is a question about a distance / from {a} to {b} / in {c}
        q: What does the question ask? It asks how far it is from {a} to {b}.
        q: Which town is the question about? {c}.
        """,
        a=PLACE,
        b=PLACE,
        c=CITY,
    ),
    Template(
        """
        travel_duration
        en: The trip from {c} to {e} by {v} takes {n} hours.
        km: ការធ្វើដំណើរពី{c}ទៅ{e}តាម{v} ត្រូវចំណាយពេល {n} ម៉ោង។
        sum: The trip takes {n} hours.
        pts: the trip from {c} to {e} / by {v} / {n} hours
        q: How many hours does the trip take? {n} hours.
        q: Where does the trip start? In {c}.
        q: Where does the trip end? In {e}.
        """,
        c=CITY,
        e=CITY,
        v=TRANSPORT,
        n=number(2, 12),
    ),
    Template(
        """
        travel_visit_plan
        en: {p} will visit {c} for {n} days in {m}.
        km: {p.s}នឹងទៅលេងប្រទេស{c} រយៈពេល {n} ថ្ងៃនៅខែ{m}។
        sum: {p} will visit {c}.
        pts: {p} will visit {c} / for {n} days / in {m}
        q: Which country will {p} visit? {c}.
        q: How many days will {p} visit {c}? {n} days.
        q: When will {p} visit {c}? In {m}.
        q: Who will visit {c}? {p}.
        """,
        p=ANYONE,
        c=COUNTRY,
        n=number(3, 30),
        m=MONTH,
    ),
    Template(
        """
        travel_tourists
        en: {n} tourists from {a} arrived in {c} on {d}.
        km: ភ្ញៀវទេសចរ {n} នាក់មកពីប្រទេស{a} បានមកដល់{c}នៅ{d}។
        sum: Tourists arrived in {c}.
        pts: {n} tourists from {a} / they arrived in {c} / on {d}
        q: How many tourists arrived? {n} tourists.
        q: Where are the tourists from? From {a}.
        q: Where did the tourists arrive? In {c}.
        q: When did the tourists arrive? On {d}.
        """,
        n=number(10, 300),
        a=COUNTRY,
        c=CITY,
        d=DATE,
    ),
    Template(
        """
        travel_arrival_passage
        en: {p} left {c} at {t}. {p.he} arrived in {e} {n} hours later.
        km: {p.s}បានចាកចេញពី{c}នៅ{t}។ {n} ម៉ោងក្រោយមក គាត់បានទៅដល់{e}។
        sum: {p} went from {c} to {e}.
        pts: {p} left {c} at {t} / {p.he} arrived in {e} {n} hours later
        q: When did {p} leave {c}? At {t}.
        q: Where did {p} arrive? In {e}.
        q: How many hours did the trip take? {n} hours.
        """,
        p=PERSON,
        c=CITY,
        t=TIME,
        e=CITY,
        n=number(2, 9),
    ),
    Template(
        """
        travel_petrol
        en: {p} drove {n} kilometres and used {m} litres of petrol.
        km: {p.s}បានបើកបរចម្ងាយ {n} គីឡូម៉ែត្រ ហើយប្រើសាំងអស់ {m} លីត្រ។
        sum: {p} drove {n} kilometres.
        pts: {p} drove {n} kilometres / {p} used {m} litres of petrol
        q: How many kilometres did {p} drive? {n} kilometres.
        q: How many litres of petrol did {p} use? {m} litres.
        q: Who drove {n} kilometres? {p}.
        """,
        p=ANYONE,
        n=number(60, 480, 5),
        m=number(5, 40),
    ),
    Template(
        """
        travel_bag
        en: {p}'s bag weighs {n} kilograms, but the limit is {m} kilograms.
        km: កាបូបរបស់{p.s}មានទម្ងន់ {n} គីឡូក្រាម ប៉ុន្តែទម្ងន់កំណត់គឺ {m} គីឡូក្រាម។
        sum: {p}'s bag is too heavy.
        pts: {p}'s bag weighs {n} kilograms / the limit is {m} kilograms
        q: How many kilograms does {p}'s bag weigh? {n} kilograms.
        q: What is the limit? {m} kilograms.
        q: Whose bag weighs {n} kilograms? {p}'s.
        """,
        p=ANYONE,
        n=number(21, 40),
        m=number(7, 20),
    ),
    Template(
        """
        travel_late
        en: The {v} from {c} was {n} minutes late on {d}.
        km: {v}ពី{c} បានមកដល់យឺត {n} នាទីនៅ{d}។
        sum: The {v} from {c} was late.
        pts: the {v} from {c} / {n} minutes late / on {d}
        q: How many minutes late was the {v}? {n} minutes.
        q: Where did the {v} come from? From {c}.
        q: On what day was the {v} late? On {d}.
        """,
        v=VEHICLE,
        c=CITY,
        n=number(5, 55),
        d=DAY,
    ),
    Template(
        """
        travel_waiting
        en: {p} is waiting for {q} at {a}.
        km: {p.s}កំពុងរង់ចាំ{q} នៅ{a}។
        sum: {p} is waiting for {q}.
        pts: {p} is waiting for {q} / at {a}
        q: Who is waiting for {q}? {p}.
        q: Who is {p} waiting for? {q}.
        q: Where is {p} waiting? At {a}.
        """,
        p=ANYONE,
        q=PERSON,
        a=PLACE,
    ),
    Template(
        """
        travel_friends_passage
        en: {p} and {n} friends travelled to {c} on {d}. They stayed for {m} nights.
        km: {p.s}និងមិត្តភក្តិ {n} នាក់ បានធ្វើដំណើរទៅ{c}នៅ{d}។ ពួកគេបានស្នាក់នៅទីនោះរយៈពេល {m} យប់។
        sum: {p} and {n} friends travelled to {c}.
        pts: {p} and {n} friends travelled to {c} / on {d} / they stayed for {m} nights
        q: Where did {p} and {n} friends travel? To {c}.
        q: How many nights did they stay? {m} nights.
        q: When did they travel? On {d}.
        q: How many friends travelled with {p}? {n} friends.
        """,
        p=PERSON,
        n=number(2, 9),
        c=CITY,
        d=DATE,
        m=number(2, 9),
    ),
    Template(
        """
        travel_no_more
        en: There are no {v.pl} from {c} to {e} after {t}.
        km: គ្មាន{v}ពី{c}ទៅ{e} ក្រោយ{t}ទេ។
        sum: There are no {v.pl} to {e} after {t}.
        pts: no {v.pl} from {c} to {e} / after {t}
        q: After what time are there no {v.pl} to {e}? After {t}.
        q: Are there {v.pl} to {e} after {t}? No, there are no {v.pl} to {e} after {t}.
        """,
        v=VEHICLE,
        c=CITY,
        e=CITY,
        t=EVENING,
    ),
    Template(
        """
        travel_how_question
        en: Will {p} go to {c} by {a} or by {b}?
        km: តើ{p.s}នឹងទៅ{c}តាម{a} ឬតាម{b}?
        sum: The question is how {p} will go to {c}.
        pts: this is a question about {p} / {p} will go to {c} / by {a} or by {b}
        q: Where will {p} go? To {c}.
        q: Who will go to {c}? {p}.
        """,
        p=ANYONE,
        c=CITY,
        a=TRANSPORT,
        b=TRANSPORT,
    ),
)
