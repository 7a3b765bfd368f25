"""Sentence plans about people and places."""

from __future__ import annotations

from .goods import ADJECTIVE, ANIMAL, HOBBY, LANGUAGE, MEAL, STATIONERY
from .grammar import Template
from .lexicon import ANYONE, CITY, DATE, DAY, EARLY, JOB, KIN, MAN, NAME, NIGHT, PAST, PERSON, PLACE, TIME, WOMAN
from .quantities import AGE, DIGITS3, PREFIX, YEAR, number

PEOPLE = (
    Template(
        """
        people_age_home
        en: {p} is {n} years old and lives in {c}.
        km: {p.s}មានអាយុ {n} ឆ្នាំ ហើយរស់នៅ{c}។
        sum: {p} lives in {c}.
        pts: {p} is {n} years old / {p} lives in {c}
        q: How old is {p}? {n} years old.
        q: Where does {p} live? In {c}.
        q: Who lives in {c}? {p}.
        """,
        p=PERSON,
        n=AGE,
        c=CITY,
    ),
    Template(
        """
        people_born
        en: {p} was born in {c} on {d} {y}.
        km: {p.s}កើតនៅ{c} នៅ{d} ឆ្នាំ{y}។
        sum: {p} was born in {y}.
        pts: {p} was born in {c} / on {d} {y}
        q: When was {p} born? On {d} {y}.
        q: Where was {p} born? In {c}.
        q: Who was born in {c}? {p}.
        """,
        p=PERSON,
        c=CITY,
        d=DATE,
        y=number(1940, 2015),
    ),
    Template(
        """
        people_job_years
        en: {p} has worked as {j.a} in {c} for {n} years.
        km: {p.s}បានធ្វើការជា{j}នៅ{c} អស់រយៈពេល {n} ឆ្នាំហើយ។
        sum: {p} works as {j.a}.
        pts: {p} works as {j.a} / in {c} / for {n} years
        q: What does {p} work as? {p} works as {j.a}.
        q: How many years has {p} worked in {c}? {n} years.
        q: Where does {p} work? In {c}.
        """,
        p=PERSON,
        j=JOB,
        c=CITY,
        n=number(2, 40),
    ),
    Template(
        """
        people_children
        en: {p} has {n} sons and {m} daughters.
        km: {p.s}មានកូនប្រុស {n} នាក់ និងកូនស្រី {m} នាក់។
        sum: {p} has sons and daughters.
        pts: {p} has {n} sons / {p} has {m} daughters
        q: How many sons does {p} have? {n} sons.
        q: How many daughters does {p} have? {m} daughters.
        """,
        p=ANYONE,
        n=number(2, 5),
        m=number(2, 5),
    ),
    Template(
        """
        people_wedding
        en: {p} and {q} got married in {c} in {y}.
        km: {p} និង {q} បានរៀបការនៅ{c} នៅឆ្នាំ{y}។
        sum: {p} and {q} got married.
        pts: {p} and {q} got married / in {c} / in {y}
        q: Who got married in {c}? {p} and {q}.
        q: Where did {p} and {q} get married? In {c}.
        q: When did {p} get married? In {y}.
        """,
        p=MAN,
        q=WOMAN,
        c=CITY,
        y=YEAR,
    ),
    Template(
        """
        people_hobby
        en: {p} likes to {h} every {d}.
        km: {p.s}ចូលចិត្ត{h}រៀងរាល់{d}។
        sum: {p} likes to {h}.
        pts: {p} likes to {h} / every {d}
        q: What does {p} like to do every {d}? {p} likes to {h}.
        q: On what day does {p} like to {h}? On {d}.
        """,
        p=ANYONE,
        h=HOBBY,
        d=DAY,
    ),
    Template(
        """
        people_hobby_not
        en: {p} does not like to {h}, but {p.he} likes to {k}.
        km: {p.s}មិនចូលចិត្ត{h}ទេ ប៉ុន្តែគាត់ចូលចិត្ត{k}។
        sum: {p} likes to {k}.
        pts: {p} does not like to {h} / {p} likes to {k}
        q: What does {p} like to do? {p} likes to {k}.
        q: Does {p} like to {h}? No, {p} does not like to {h}.
        """,
        p=PERSON,
        h=HOBBY,
        k=HOBBY,
    ),
    Template(
        """
        people_home_question
        en: Does {p} live in {c} or in {e}?
        km: តើ{p.s}រស់នៅ{c} ឬនៅ{e}?
        sum: The question is where {p} lives.
        pts: this is a question about {p} / {c} or {e}
        q: Who is the question about? {p}.
        q: What does the question ask? It asks where {p} lives.
        """,
        p=ANYONE,
        c=CITY,
        e=CITY,
    ),
    Template(
        """
        people_meet
        en: {p} met {q} at {a} at {t}.
        km: {p.s}បានជួប{q} នៅ{a} នៅ{t}។
        sum: {p} met {q}.
        pts: {p} met {q} / at {a} / at {t}
        q: Who did {p} meet? {q}.
        q: Where did {p} meet {q}? At {a}.
        q: When did {p} meet {q}? At {t}.
        """,
        p=ANYONE,
        q=PERSON,
        a=PLACE,
        t=TIME,
    ),
    Template(
        """
        people_invite
        en: {p} invited {n} friends to {p.his} house on {d}.
        km: {p.s}បានអញ្ជើញមិត្តភក្តិ {n} នាក់ ទៅផ្ទះរបស់គាត់នៅ{d}។
        sum: {p} invited friends to {p.his} house.
        pts: {p} invited {n} friends / to {p.his} house / on {d}
        q: How many friends did {p} invite? {n} friends.
        q: On what day did {p} invite friends? On {d}.
        q: Who invited {n} friends? {p}.
        """,
        p=PERSON,
        n=number(2, 30),
        d=DAY,
    ),
    Template(
        """
        people_family_passage
        en: There are {n} people in {p}'s family. They live in {a.a} house in {c}.
        km: គ្រួសាររបស់{p.s}មានសមាជិក {n} នាក់។ ពួកគេរស់នៅក្នុងផ្ទះ{a}មួយនៅ{c}។
        sum: {p}'s family lives in {c}.
        pts: {n} people in {p}'s family / {a.a} house / in {c}
        q: How many people are there in {p}'s family? {n} people.
        q: Where does {p}'s family live? In {c}.
        q: What kind of house does {p}'s family live in? {a.a} house.
        """,
        p=PERSON,
        n=number(3, 12),
        a=ADJECTIVE,
        c=CITY,
    ),
    Template(
        """
        people_kin_job
        en: {p}'s {k} is {j.a} and works in {c}.
        km: {k}របស់{p.s}ជា{j} ហើយធ្វើការនៅ{c}។
        sum: {p}'s {k} is {j.a}.
        pts: {p}'s {k} is {j.a} / {p}'s {k} works in {c}
        q: What is the job of {p}'s {k}? {p}'s {k} is {j.a}.
        q: Where does {p}'s {k} work? In {c}.
        """,
        p=NAME,
        k=KIN,
        j=JOB,
        c=CITY,
    ),
    Template(
        """
        people_daily_times
        en: {p} gets up at {t} and goes to bed at {u}.
        km: {p.s}ក្រោកពីដំណេកនៅ{t} ហើយចូលគេងនៅ{u}។
        sum: {p} gets up at {t}.
        pts: {p} gets up at {t} / {p} goes to bed at {u}
        q: When does {p} get up? At {t}.
        q: When does {p} go to bed? At {u}.
        q: Who gets up at {t}? {p}.
        """,
        p=ANYONE,
        t=EARLY,
        u=NIGHT,
    ),
    Template(
        """
        people_birthday
        en: {p} will be {n} years old on {d}.
        km: {p.s}នឹងមានអាយុ {n} ឆ្នាំ នៅ{d}។
        sum: {p} will be {n} years old.
        pts: {p} will be {n} years old / on {d}
        q: How old will {p} be? {n} years old.
        q: When will {p} be {n} years old? On {d}.
        """,
        p=PERSON,
        n=AGE,
        d=DATE,
    ),
    Template(
        """
        people_present
        en: {p} gave {q} {n} {i.pl} as a present.
        km: {p.s}បានឱ្យ{i} {n} {i.cl} ទៅ{q} ជាកាដូ។
        sum: {p} gave {q} a present.
        pts: {p} gave {q} a present / {n} {i.pl}
        q: Who gave {q} a present? {p}.
        q: What did {p} give {q}? {n} {i.pl}.
        q: How many {i.pl} did {q} get? {n} {i.pl}.
        """,
        p=ANYONE,
        q=PERSON,
        n=number(2, 12),
        i=STATIONERY,
    ),
    Template(
        """
        people_call_no_answer
        en: {p} called {q} {w}, but {q.he} did not answer.
        km: {p.s}បានទូរស័ព្ទទៅ{q} {w} ប៉ុន្តែគាត់មិនបានទទួលទេ។
        sum: {q} did not answer.
        pts: {p} called {q} {w} / {q} did not answer
        q: Who called {q}? {p}.
        q: When did {p} call {q}? {w}.
        q: Did {q} answer? No, {q} did not answer.
        """,
        p=ANYONE,
        q=PERSON,
        w=PAST,
    ),
    Template(
        """
        people_older
        en: {p} is {n} years older than {q}.
        km: {p.s}មានអាយុច្រើនជាង{q} {n} ឆ្នាំ។
        sum: {p} is older than {q}.
        pts: {p} is older than {q} / by {n} years
        q: Who is older, {p} or {q}? {p}.
        q: How many years older is {p}? {n} years.
        """,
        p=ANYONE,
        q=PERSON,
        n=number(2, 20),
    ),
    Template(
        """
        people_languages
        en: {p} can speak {a} and {b}, but not {c}.
        km: {p.s}អាចនិយាយ{a} និង{b}បាន ប៉ុន្តែមិនចេះ{c}ទេ។
        sum: {p} can speak {a} and {b}.
        pts: {p} can speak {a} / {p} can speak {b} / {p} cannot speak {c}
        q: Which languages can {p} speak? {a} and {b}.
        q: Which language can {p} not speak? {c}.
        """,
        p=ANYONE,
        a=LANGUAGE,
        b=LANGUAGE,
        c=LANGUAGE,
    ),
    Template(
        """
        people_cooking
        en: {p} is cooking {f} for {n} people.
        km: {p.s}កំពុងចម្អិន{f}សម្រាប់មនុស្ស {n} នាក់។
        sum: {p} is cooking {f}.
        pts: {p} is cooking {f} / for {n} people
        q: What is {p} cooking? {f}.
        q: Who is cooking {f}? {p}.
        q: How many people is {p} cooking for? {n} people.
        """,
        p=ANYONE,
        f=MEAL,
        n=number(2, 30),
    ),
    Template(
        """
        people_phone_number
        en: {p}'s phone number is {x} {y} {z}.
        km: លេខទូរស័ព្ទរបស់{p.s}គឺ {x} {y} {z}។
        sum: This is {p}'s phone number.
        pts: {p}'s phone number / {x} {y} {z}
        q: What is {p}'s phone number? {x} {y} {z}.
        q: Whose phone number is {x} {y} {z}? {p}'s.
        """,
        p=PERSON,
        x=PREFIX,
        y=DIGITS3,
        z=DIGITS3,
    ),
    Template(
        """
        people_animals
        en: {p} raises {n} {a.pl} and {m} {b.pl} in {c}.
        km: {p.s}ចិញ្ចឹម{a} {n} {a.cl} និង{b} {m} {b.cl} នៅ{c}។
        sum: {p} raises {a.pl} and {b.pl}.
        pts: {p} raises {n} {a.pl} / {p} raises {m} {b.pl} / in {c}
        q: How many {a.pl} does {p} raise? {n} {a.pl}.
        q: How many {b.pl} does {p} raise? {m} {b.pl}.
        q: Where does {p} raise {a.pl}? In {c}.
        """,
        p=ANYONE,
        n=number(2, 90),
        a=ANIMAL,
        m=number(2, 90),
        b=ANIMAL,
        c=CITY,
    ),
)
