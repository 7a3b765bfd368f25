"""Sentence plans about school and university."""

from __future__ import annotations

from .goods import LANGUAGE, SCIENCE, STATIONERY, SUBJECT, SYMPTOM
from .grammar import Template
from .lexicon import CITY, COUNTRY, DATE, FORENOON, LATE_MORNING, NAME, OFFICE_TIME, PAST, SIGHT, TEACHER, WEEKDAY
from .quantities import FUTURE_YEAR, number

SCHOOL = (
    Template(
        """
        school_teaches
        en: {p} teaches {a} to {n} students.
        km: {p.s}បង្រៀន{a}ដល់សិស្ស {n} នាក់។
        sum: {p} teaches {a}.
        pts: {p} teaches {a} / to {n} students
        q: What does {p} teach? {a}.
        q: How many students does {p} teach? {n} students.
        q: Who teaches {a}? {p}.
        """,
        p=TEACHER,
        a=SUBJECT,
        n=number(8, 60),
    ),
    Template(
        """
        school_grade
        en: {p} is in grade {n} at a school in {c}.
        km: {p.s}រៀនថ្នាក់ទី{n} នៅសាលារៀនមួយក្នុង{c}។
        sum: {p} is in grade {n}.
        pts: {p} is in grade {n} / at a school in {c}
        q: Which grade is {p} in? Grade {n}.
        q: Where is the school? In {c}.
        q: Who is in grade {n}? {p}.
        """,
        p=NAME,
        n=number(2, 12),
        c=CITY,
    ),
    Template(
        """
        school_score
        en: {p} got {n} points in the {a} test.
        km: {p.s}បានទទួល {n} ពិន្ទុក្នុងការប្រឡង{a}។
        sum: {p} took the {a} test.
        pts: the {a} test / {p} got {n} points
        q: How many points did {p} get? {n} points.
        q: Who got {n} points? {p}.
        q: Which test did {p} take? The {a} test.
        """,
        p=NAME,
        n=number(20, 100),
        a=SUBJECT,
    ),
    Template(
        """
        school_library
        en: {p} borrowed {n} books from the library on {d}.
        km: {p.s}បានខ្ចីសៀវភៅ {n} ក្បាលពីបណ្ណាល័យនៅ{d}។
        sum: {p} borrowed books.
        pts: {p} borrowed {n} books / from the library / on {d}
        q: How many books did {p} borrow? {n} books.
        q: Where did {p} borrow the books? From the library.
        q: On what day did {p} borrow the books? On {d}.
        """,
        p=NAME,
        n=number(2, 15),
        d=WEEKDAY,
    ),
    Template(
        """
        school_class_times
        en: The {a} class starts at {t} and ends at {u}.
        km: ថ្នាក់{a}ចាប់ផ្ដើមនៅ{t} ហើយបញ្ចប់នៅ{u}។
        sum: The {a} class starts at {t}.
        pts: the {a} class / it starts at {t} / it ends at {u}
        q: When does the {a} class start? At {t}.
        q: When does the {a} class end? At {u}.
        q: Which class ends at {u}? The {a} class.
        """,
        a=SUBJECT,
        t=FORENOON,
        u=LATE_MORNING,
    ),
    Template(
        """
        school_size
        en: The school in {c} has {n} students and {m} teachers.
        km: សាលារៀននៅ{c} មានសិស្ស {n} នាក់ និងគ្រូបង្រៀន {m} នាក់។
        sum: The school in {c} has {n} students.
        pts: the school in {c} / {n} students / {m} teachers
        q: How many students does the school have? {n} students.
        q: How many teachers does the school have? {m} teachers.
        q: Where is the school? In {c}.
        """,
        c=CITY,
        n=number(150, 950),
        m=number(8, 60),
    ),
    Template(
        """
        school_absent
        en: {p} did not go to school on {d} because {p.he} had {s}.
        km: {p.s}មិនបានទៅសាលារៀននៅ{d}ទេ ព្រោះគាត់{s}។
        sum: {p} did not go to school.
        pts: {p} did not go to school on {d} / {p} had {s}
        q: Why did {p} not go to school? Because {p.he} had {s}.
        q: On what day did {p} not go to school? On {d}.
        q: Who had {s}? {p}.
        """,
        p=NAME,
        d=WEEKDAY,
        s=SYMPTOM,
    ),
    Template(
        """
        school_exam_date
        en: The {a} exam will be on {d} at {t}.
        km: ការប្រឡង{a}នឹងធ្វើឡើងនៅ{d} វេលា{t}។
        sum: The {a} exam will be on {d}.
        pts: the {a} exam / on {d} / at {t}
        q: When will the {a} exam be? On {d} at {t}.
        q: Which exam will be on {d}? The {a} exam.
        """,
        a=SUBJECT,
        d=DATE,
        t=OFFICE_TIME,
    ),
    Template(
        """
        school_subject_question
        en: Does {p} study {a} or {b} on {d}?
        km: តើ{p.s}រៀន{a} ឬ{b}នៅ{d}?
        sum: The question is what {p} studies on {d}.
        pts: this is a question about {p} / {a} or {b} / on {d}
        q: Who is the question about? {p}.
        q: Which day is the question about? {d}.
        """,
        p=NAME,
        a=SUBJECT,
        b=SUBJECT,
        d=WEEKDAY,
    ),
    Template(
        """
        school_homework
        en: {p} has to read {n} pages and write {m} sentences before {d}.
        km: {p.s}ត្រូវអាន {n} ទំព័រ និងសរសេរ {m} ប្រយោគមុន{d}។
        sum: {p} has to read and write.
        pts: {p} has to read {n} pages / {p} has to write {m} sentences / before {d}
        q: How many pages does {p} have to read? {n} pages.
        q: How many sentences does {p} have to write? {m} sentences.
        q: Who has to read {n} pages? {p}.
        """,
        p=NAME,
        n=number(2, 40),
        m=number(3, 30),
        d=WEEKDAY,
    ),
    Template(
        """
        school_shopping
        en: {p} bought {n} {a.pl} and {m} {b.pl} for school.
        km: {p.s}បានទិញ{a} {n} {a.cl} និង{b} {m} {b.cl} សម្រាប់ទៅរៀន។
        sum: {p} bought {a.pl} and {b.pl}.
        pts: {p} bought {n} {a.pl} / {p} bought {m} {b.pl} / for school
        q: How many {a.pl} did {p} buy? {n} {a.pl}.
        q: How many {b.pl} did {p} buy? {m} {b.pl}.
        q: Who bought {n} {a.pl}? {p}.
        """,
        p=NAME,
        n=number(2, 12),
        a=STATIONERY,
        m=number(2, 12),
        b=STATIONERY,
    ),
    Template(
        """
        school_gave_each
        en: {p} gave each student {n} {a.pl}.
        km: {p.s}បានឱ្យ{a} {n} {a.cl} ដល់សិស្សម្នាក់ៗ។
        sum: {p} gave the students {a.pl}.
        pts: {p} gave each student {a.pl} / {n} {a.pl} each
        q: What did {p} give each student? {n} {a.pl}.
        q: How many {a.pl} did each student get? {n} {a.pl}.
        q: Who gave each student {a.pl}? {p}.
        """,
        p=TEACHER,
        n=number(2, 12),
        a=STATIONERY,
    ),
    Template(
        """
        school_scholarship
        en: {p} won a scholarship to study {a} in {c} for {n} years.
        km: {p.s}បានទទួលអាហារូបករណ៍ទៅសិក្សា{a}នៅប្រទេស{c} រយៈពេល {n} ឆ្នាំ។
        sum: {p} won a scholarship.
        pts: {p} won a scholarship / to study {a} in {c} / for {n} years
        q: What did {p} win? A scholarship.
        q: Where will {p} study? In {c}.
        q: What will {p} study? {a}.
        q: How many years will {p} study in {c}? {n} years.
        """,
        p=NAME,
        a=SCIENCE,
        c=COUNTRY,
        n=number(2, 6),
    ),
    Template(
        """
        school_class_question
        en: How many students are there in {p}'s {a} class on {d}?
        km: តើមានសិស្សប៉ុន្មាននាក់ក្នុងថ្នាក់{a}របស់{p.s}នៅ{d}?
        sum: The question is about {p}'s {a} class.
        pts: this is a question about a class / {p} teaches {a} / the question is how many students there are on {d}
        q: Which day is the question about? {d}.
        q: Which class is the question about? {p}'s {a} class.
        q: What does the question ask? It asks how many students there are.
        """,
        p=TEACHER,
        a=SUBJECT,
        d=WEEKDAY,
    ),
    Template(
        """
        school_walk_passage
        en: {p} walks to school every day. The school is {n} metres from {p.his} house.
        km: {p.s}ដើរទៅសាលារៀនរៀងរាល់ថ្ងៃ។ សាលារៀនស្ថិតនៅចម្ងាយ {n} ម៉ែត្រពីផ្ទះរបស់គាត់។
        sum: {p} walks to school.
        pts: {p} walks to school every day / the school is {n} metres from {p.his} house
        q: How does {p} go to school? {p} walks to school.
        q: How far is the school from {p}'s house? {n} metres.
        q: Who walks to school every day? {p}.
        """,
        p=NAME,
        n=number(100, 980, 10),
    ),
    Template(
        """
        school_university_passage
        en: {p} studies {a} at the university in {c}. {p.he} will finish in {y}.
        km: {p.s}រៀន{a}នៅសាកលវិទ្យាល័យក្នុង{c}។ គាត់នឹងបញ្ចប់ការសិក្សានៅឆ្នាំ{y}។
        sum: {p} studies {a}.
        pts: {p} studies {a} / at the university in {c} / {p.he} will finish in {y}
        q: What does {p} study? {a}.
        q: Where does {p} study? At the university in {c}.
        q: When will {p} finish? In {y}.
        """,
        p=NAME,
        a=SUBJECT,
        c=CITY,
        y=FUTURE_YEAR,
    ),
    Template(
        """
        school_trip
        en: {n} students and {m} teachers visited {a} in {c} {w}.
        km: សិស្ស {n} នាក់ និងគ្រូបង្រៀន {m} នាក់ បានទៅទស្សនា{a}នៅ{c} {w}។
        sum: Students and teachers visited {a}.
        pts: {n} students and {m} teachers / they visited {a} in {c} / {w}
        q: How many students visited {a}? {n} students.
        q: How many teachers visited {a}? {m} teachers.
        q: What did the students visit? {a} in {c}.
        q: When did the students visit {a}? {w}.
        """,
        n=number(15, 90),
        m=number(2, 9),
        a=SIGHT,
        c=CITY,
        w=PAST,
    ),
    Template(
        """
        school_prefers
        en: {p} likes {a} more than {b}, but {p.he} does not like {c}.
        km: {p.s}ចូលចិត្ត{a}ជាង{b} ប៉ុន្តែគាត់មិនចូលចិត្ត{c}ទេ។
        sum: {p} likes {a} more than {b}.
        pts: {p} likes {a} more than {b} / {p} does not like {c}
        q: Which subject does {p} not like? {c}.
        q: Does {p} like {a} or {b} more? {a}.
        """,
        p=NAME,
        a=SCIENCE,
        b=SCIENCE,
        c=LANGUAGE,
    ),
)
