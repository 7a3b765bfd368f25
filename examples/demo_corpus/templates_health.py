"""Sentence plans about health, doctors and hospitals."""

from __future__ import annotations

from .goods import DISEASE, EATEN, MEDICINE, SYMPTOM
from .grammar import Template
from .lexicon import ANYONE, CITY, DAY, DOCTOR, OFFICE_TIME, PAST, PERSON, TIME, WEEKDAY
from .quantities import FLOOR, LITRES_A_DAY, ROOM, decimals, number, riel

HEALTH = (
    Template(
        """
        health_symptom_days
        en: {p} has had {s} for {n} days.
        km: {p.s}{s}អស់រយៈពេល {n} ថ្ងៃហើយ។
        sum: {p} has {s}.
        pts: {p} has {s} / for {n} days
        q: Who has {s}? {p}.
        q: What does {p} have? {s}.
        q: How many days has {p} had {s}? {n} days.
        """,
        p=ANYONE,
        s=SYMPTOM,
        n=number(2, 14),
    ),
    Template(
        """
        health_tablets
        en: {p} must take {n} tablets a day for {m} days.
        km: {p.s}ត្រូវលេបថ្នាំ {n} គ្រាប់ក្នុងមួយថ្ងៃ រយៈពេល {m} ថ្ងៃ។
        sum: {p} must take tablets.
        pts: {p} must take tablets / {n} tablets a day / for {m} days
        q: How many tablets a day must {p} take? {n} tablets.
        q: For how many days must {p} take tablets? {m} days.
        q: Who must take tablets? {p}.
        """,
        p=ANYONE,
        n=number(2, 9),
        m=number(2, 21),
    ),
    Template(
        """
        health_appointment
        en: {p} has an appointment with {q} on {d} at {t}.
        km: {p.s}មានការណាត់ជួបជាមួយ{q} នៅ{d} វេលា{t}។
        sum: {p} has an appointment with {q}.
        pts: {p} has an appointment with {q} / on {d} / at {t}
        q: Who does {p} have an appointment with? {q}.
        q: On what day is the appointment? On {d}.
        q: When is the appointment? On {d} at {t}.
        """,
        p=ANYONE,
        q=DOCTOR,
        d=WEEKDAY,
        t=OFFICE_TIME,
    ),
    Template(
        """
        health_weight
        en: {p} weighs {n} kilograms and is {m} centimetres tall.
        km: {p.s}មានទម្ងន់ {n} គីឡូក្រាម និងកម្ពស់ {m} សង់ទីម៉ែត្រ។
        sum: {p} weighs {n} kilograms.
        pts: {p} weighs {n} kilograms / {p} is {m} centimetres tall
        q: How many kilograms does {p} weigh? {n} kilograms.
        q: How tall is {p}? {m} centimetres.
        """,
        p=ANYONE,
        n=number(45, 92),
        m=number(145, 188),
    ),
    Template(
        """
        health_hospital_size
        en: The hospital in {c} has {n} doctors and {m} beds.
        km: មន្ទីរពេទ្យនៅ{c} មានវេជ្ជបណ្ឌិត {n} នាក់ និងគ្រែចំនួន {m}។
        sum: The hospital in {c} has {m} beds.
        pts: the hospital in {c} / {n} doctors / {m} beds
        q: How many doctors does the hospital have? {n} doctors.
        q: How many beds does the hospital have? {m} beds.
        q: Where is the hospital? In {c}.
        """,
        c=CITY,
        n=number(5, 90),
        m=number(100, 600, 5),
    ),
    Template(
        """
        health_temperature
        en: {p}'s temperature was {n} degrees at {t}.
        km: កម្ដៅខ្លួនរបស់{p.s}គឺ {n} អង្សានៅ{t}។
        sum: {p}'s temperature was {n} degrees.
        pts: {p}'s temperature was {n} degrees / at {t}
        q: What was {p}'s temperature? {n} degrees.
        q: When was {p}'s temperature {n} degrees? At {t}.
        q: Whose temperature was {n} degrees? {p}'s.
        """,
        p=ANYONE,
        n=decimals(365, 405),
        t=TIME,
    ),
    Template(
        """
        health_should_not_eat
        en: {p} should not eat {f} because {p.he} has {s}.
        km: {p.s}មិនគួរញ៉ាំ{f}ទេ ព្រោះគាត់មាន{s}។
        sum: {p} should not eat {f}.
        pts: {p} should not eat {f} / {p} has {s}
        q: Why should {p} not eat {f}? Because {p.he} has {s}.
        q: What should {p} not eat? {f}.
        q: Who has {s}? {p}.
        """,
        p=PERSON,
        f=EATEN,
        s=DISEASE,
    ),
    Template(
        """
        health_stay
        en: {p} stayed in hospital for {n} days and went home on {d}.
        km: {p.s}បានសម្រាកនៅមន្ទីរពេទ្យរយៈពេល {n} ថ្ងៃ ហើយបានត្រឡប់ទៅផ្ទះវិញនៅ{d}។
        sum: {p} stayed in hospital.
        pts: {p} stayed in hospital for {n} days / {p} went home on {d}
        q: How many days did {p} stay in hospital? {n} days.
        q: On what day did {p} go home? On {d}.
        q: Who stayed in hospital? {p}.
        """,
        p=ANYONE,
        n=number(2, 30),
        d=DAY,
    ),
    Template(
        """
        health_vaccine
        en: {n} children in {c} were vaccinated {w}.
        km: កុមារ {n} នាក់នៅ{c} ត្រូវបានចាក់វ៉ាក់សាំង{w}។
        sum: Children in {c} were vaccinated.
        pts: {n} children were vaccinated / in {c} / {w}
        q: How many children were vaccinated? {n} children.
        q: Where were the children vaccinated? In {c}.
        q: When were the children vaccinated? {w}.
        """,
        n=number(20, 900),
        c=CITY,
        w=PAST,
    ),
    Template(
        """
        health_days_question
        en: How many days has {p} had {s}?
        km: តើ{p.s}{s}អស់រយៈពេលប៉ុន្មានថ្ងៃហើយ?
        sum: The question is about {p}'s illness.
        pts: this is a question about {p} / {p} has {s} / the question is how many days
        q: Who is the question about? {p}.
        q: What does {p} have? {s}.
        """,
        p=ANYONE,
        s=SYMPTOM,
    ),
    Template(
        """
        health_runs
        en: {p} runs {n} kilometres every {d} to stay healthy.
        km: {p.s}រត់ {n} គីឡូម៉ែត្ររៀងរាល់{d} ដើម្បីរក្សាសុខភាព។
        sum: {p} runs every {d}.
        pts: {p} runs {n} kilometres / every {d} / to stay healthy
        q: How many kilometres does {p} run? {n} kilometres.
        q: Why does {p} run? To stay healthy.
        q: On what day does {p} run? On {d}.
        """,
        p=ANYONE,
        n=number(2, 15),
        d=DAY,
    ),
    Template(
        """
        health_advice
        en: The doctor told {p} to drink {n} litres of water and sleep {m} hours a day.
        km: វេជ្ជបណ្ឌិតបានប្រាប់{p.s}ឱ្យផឹកទឹក {n} លីត្រ និងគេង {m} ម៉ោងក្នុងមួយថ្ងៃ។
        sum: The doctor told {p} to drink water and sleep.
        pts: {p} should drink {n} litres of water a day / {p} should sleep {m} hours a day
        q: How many litres of water should {p} drink a day? {n} litres.
        q: How many hours should {p} sleep a day? {m} hours.
        q: Who told {p} to drink water? The doctor.
        """,
        p=PERSON,
        n=LITRES_A_DAY,
        m=number(6, 10),
    ),
    Template(
        """
        health_pharmacy
        en: {p} bought {n} tablets of {f} at the pharmacy for {r}.
        km: {p.s}បានទិញ{f} {n} គ្រាប់នៅឱសថស្ថាន ក្នុងតម្លៃ {r}។
        sum: {p} bought {f}.
        pts: {p} bought {n} tablets of {f} / at the pharmacy / for {r}
        q: What did {p} buy? {n} tablets of {f}.
        q: How much did {p} pay? {r}.
        q: How many tablets did {p} buy? {n} tablets.
        q: Where did {p} buy the tablets? At the pharmacy.
        """,
        p=ANYONE,
        n=number(4, 40, 2),
        f=MEDICINE,
        r=riel(1500, 20000),
    ),
    Template(
        """
        health_doctor_passage
        en: {p} has {s}. {p.he} went to see {q} {w}.
        km: {p.s}{s}។ គាត់បានទៅជួប{q} {w}។
        sum: {p} went to see {q}.
        pts: {p} has {s} / {p.he} went to see {q} / {w}
        q: What does {p} have? {s}.
        q: Who did {p} go to see? {q}.
        q: When did {p} go to see {q}? {w}.
        """,
        p=PERSON,
        s=SYMPTOM,
        q=DOCTOR,
        w=PAST,
    ),
    Template(
        """
        health_operation
        en: {p}'s operation took {n} hours, and now {p.he} feels better.
        km: ការវះកាត់របស់{p.s}មានរយៈពេល {n} ម៉ោង ហើយឥឡូវនេះគាត់បានធូរស្រាលហើយ។
        sum: {p} feels better after the operation.
        pts: {p}'s operation took {n} hours / {p} feels better now
        q: How many hours did {p}'s operation take? {n} hours.
        q: How does {p} feel now? {p} feels better.
        """,
        p=PERSON,
        n=number(2, 12),
    ),
    Template(
        """
        health_no_smoking
        en: {p} does not smoke and has not drunk beer for {n} years.
        km: {p.s}មិនជក់បារីទេ ហើយមិនបានផឹកស្រាបៀរអស់រយៈពេល {n} ឆ្នាំមកហើយ។
        sum: {p} does not smoke.
        pts: {p} does not smoke / {p} has not drunk beer for {n} years
        q: Does {p} smoke? No, {p} does not smoke.
        q: For how many years has {p} not drunk beer? {n} years.
        """,
        p=ANYONE,
        n=number(2, 30),
    ),
    Template(
        """
        health_room
        en: {p} is in room {r} on floor {n} of the hospital.
        km: {p.s}ស្ថិតនៅបន្ទប់លេខ {r} ជាន់ទី{n} នៃមន្ទីរពេទ្យ។
        sum: {p} is in hospital.
        pts: {p} is in room {r} / on floor {n} of the hospital
        q: Which room is {p} in? Room {r}.
        q: Which floor is {p} on? Floor {n}.
        q: Who is in room {r}? {p}.
        """,
        p=ANYONE,
        r=ROOM,
        n=FLOOR,
    ),
    Template(
        """
        health_blood
        en: {n} people gave blood at the hospital in {c} on {d}.
        km: មនុស្ស {n} នាក់បានបរិច្ចាគឈាមនៅមន្ទីរពេទ្យក្នុង{c} នៅ{d}។
        sum: {n} people gave blood.
        pts: {n} people gave blood / at the hospital in {c} / on {d}
        q: How many people gave blood? {n} people.
        q: Where did people give blood? At the hospital in {c}.
        q: On what day did people give blood? On {d}.
        """,
        n=number(10, 400),
        c=CITY,
        d=DAY,
    ),
)
