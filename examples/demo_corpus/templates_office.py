"""Sentence plans about offices, companies, meetings and money."""

from __future__ import annotations

from .goods import DOCUMENT, OFFICE_MACHINE
from .grammar import Template
from .lexicon import CITY, FUTURE_DAY, JOB, MONTH, OFFICE_TIME, PAST, STAFF, WEEKDAY, WORKPLACE
from .quantities import FLOOR, ROOM, YEAR, dollars, number

OFFICE = (
    Template(
        """
        office_meeting_room
        en: The meeting on {d} will start at {t} in room {r}.
        km: ការប្រជុំនៅ{d} នឹងចាប់ផ្ដើមនៅ{t} ក្នុងបន្ទប់លេខ {r}។
        sum: The meeting will start at {t}.
        pts: the meeting on {d} / it will start at {t} / in room {r}
        q: When will the meeting start? At {t}.
        q: Which room is the meeting in? Room {r}.
        q: On what day is the meeting? On {d}.
        """,
        d=WEEKDAY,
        t=OFFICE_TIME,
        r=ROOM,
    ),
    Template(
        """
        office_salary
        en: {p} works as {j.a} and earns {a} a month.
        km: {p.s}ធ្វើការជា{j} ហើយទទួលបានប្រាក់ខែ {a}។
        sum: {p} works as {j.a}.
        pts: {p} works as {j.a} / {p} earns {a} a month
        q: How much does {p} earn a month? {a}.
        q: What does {p} work as? {p} works as {j.a}.
        q: Who earns {a} a month? {p}.
        """,
        p=STAFF,
        j=JOB,
        a=dollars(200, 990, 10),
    ),
    Template(
        """
        office_sent
        en: {p} sent {n} {i.pl} to {q} {w}.
        km: {p.s}បានផ្ញើ{i} {n} {i.cl} ទៅ{q} {w}។
        sum: {p} sent {i.pl} to {q}.
        pts: {p} sent {n} {i.pl} / to {q} / {w}
        q: Who sent {i.pl} to {q}? {p}.
        q: Who did {p} send {i.pl} to? {q}.
        q: How many {i.pl} did {p} send? {n} {i.pl}.
        q: When did {p} send the {i.pl}? {w}.
        """,
        p=STAFF,
        n=number(2, 20),
        i=DOCUMENT,
        q=STAFF,
        w=PAST,
    ),
    Template(
        """
        office_new_machines
        en: The company bought {n} new {i.pl} for the office in {c}.
        km: ក្រុមហ៊ុនបានទិញ{i}ថ្មី {n} {i.cl} សម្រាប់ការិយាល័យនៅ{c}។
        sum: The company bought new {i.pl}.
        pts: the company bought {n} new {i.pl} / for the office in {c}
        q: What did the company buy? {n} new {i.pl}.
        q: How many {i.pl} did the company buy? {n} {i.pl}.
        q: Where is the office? In {c}.
        """,
        n=number(2, 60),
        i=OFFICE_MACHINE,
        c=CITY,
    ),
    Template(
        """
        office_deadline
        en: {p} has to finish the {i} before {t} on {d}.
        km: {p.s}ត្រូវបញ្ចប់{i}នោះមុន{t} នៅ{d}។
        sum: {p} has to finish the {i}.
        pts: {p} has to finish the {i} / before {t} / on {d}
        q: What does {p} have to finish? The {i}.
        q: On what day does {p} have to finish the {i}? On {d}.
        q: Who has to finish the {i}? {p}.
        """,
        p=STAFF,
        i=DOCUMENT,
        t=OFFICE_TIME,
        d=WEEKDAY,
    ),
    Template(
        """
        office_not_sent
        en: {p} has not sent the {i} to {q} yet.
        km: {p.s}មិនទាន់បានផ្ញើ{i}នោះទៅ{q} នៅឡើយទេ។
        sum: {p} has not sent the {i}.
        pts: {p} has not sent the {i} yet / the {i} is for {q}
        q: What has {p} not sent yet? The {i}.
        q: Who is the {i} for? {q}.
        q: Has {p} sent the {i}? No, {p} has not sent the {i} yet.
        """,
        p=STAFF,
        i=DOCUMENT,
        q=STAFF,
    ),
    Template(
        """
        office_meeting_question
        en: Can {p} come to the meeting on {d} at {t}?
        km: តើ{p.s}អាចមកប្រជុំនៅ{d} វេលា{t} បានដែរឬទេ?
        sum: The question is about the meeting on {d}.
        pts: this is a question about a meeting / can {p} come? / on {d} / at {t}
        q: What is the question about? The meeting on {d}.
        q: When is the meeting? On {d} at {t}.
        q: Who is the question about? {p}.
        """,
        p=STAFF,
        d=WEEKDAY,
        t=OFFICE_TIME,
    ),
    Template(
        """
        office_factory
        en: The factory in {c} has {n} workers, and {m} of them are women.
        km: រោងចក្រនៅ{c} មានកម្មករ {n} នាក់ ក្នុងនោះមានស្ត្រី {m} នាក់។
        sum: The factory in {c} has {n} workers.
        pts: the factory in {c} / {n} workers / {m} women
        q: How many workers does the factory have? {n} workers.
        q: How many of the workers are women? {m} of them are women.
        q: Where is the factory? In {c}.
        """,
        c=CITY,
        n=number(300, 950),
        m=number(50, 290),
    ),
    Template(
        """
        office_leave
        en: {p} will be on leave from {a} to {b} {m}.
        km: {p.s}នឹងឈប់សម្រាកពីថ្ងៃទី{a} ដល់ថ្ងៃទី{b} ខែ{m}។
        sum: {p} will be on leave in {m}.
        pts: {p} will be on leave / from {a} to {b} {m}
        q: Who will be on leave? {p}.
        q: When will {p} be on leave? From {a} to {b} {m}.
        """,
        p=STAFF,
        a=number(2, 14),
        b=number(15, 28),
        m=MONTH,
    ),
    Template(
        """
        office_will_call
        en: {p} will call {q} {w} at {t}.
        km: {p.s}នឹងទូរស័ព្ទទៅ{q} {w} វេលា{t}។
        sum: {p} will call {q}.
        pts: {p} will call {q} / {w} / at {t}
        q: Who will call {q}? {p}.
        q: Who will {p} call? {q}.
        q: When will {p} call {q}? {w} at {t}.
        """,
        p=STAFF,
        q=STAFF,
        w=FUTURE_DAY,
        t=OFFICE_TIME,
    ),
    Template(
        """
        office_hired
        en: The company in {c} hired {n} {j.pl} in {y}.
        km: ក្រុមហ៊ុននៅ{c} បានជ្រើសរើស{j} {n} នាក់នៅឆ្នាំ{y}។
        sum: The company hired {j.pl}.
        pts: the company in {c} hired {n} {j.pl} / in {y}
        q: How many {j.pl} did the company hire? {n} {j.pl}.
        q: When did the company hire the {j.pl}? In {y}.
        q: Where is the company? In {c}.
        """,
        c=CITY,
        n=number(2, 50),
        j=JOB,
        y=YEAR,
    ),
    Template(
        """
        office_hours
        en: {p} works {n} hours a day, {m} days a week.
        km: {p.s}ធ្វើការ {n} ម៉ោងក្នុងមួយថ្ងៃ {m} ថ្ងៃក្នុងមួយសប្ដាហ៍។
        sum: {p} works {n} hours a day.
        pts: {p} works {n} hours a day / {m} days a week
        q: How many hours a day does {p} work? {n} hours.
        q: How many days a week does {p} work? {m} days.
        """,
        p=STAFF,
        n=number(4, 11),
        m=number(2, 6),
    ),
    Template(
        """
        office_copies
        en: {p} is making {n} copies of the {i} for {q}.
        km: {p.s}កំពុងថតចម្លង{i}នោះចំនួន {n} ច្បាប់សម្រាប់{q}។
        sum: {p} is making copies for {q}.
        pts: {p} is making {n} copies of the {i} / for {q}
        q: What is {p} doing? {p} is making copies of the {i}.
        q: How many copies is {p} making? {n} copies.
        q: Who are the copies for? {q}.
        """,
        p=STAFF,
        n=number(2, 60),
        i=DOCUMENT,
        q=STAFF,
    ),
    Template(
        """
        office_new_job_passage
        en: {p} started a new job at {w} in {y}. {p.he} now earns {a} a month.
        km: {p.s}បានចាប់ផ្ដើមការងារថ្មីនៅ{w} នៅឆ្នាំ{y}។ ឥឡូវនេះគាត់ទទួលបាន {a} ក្នុងមួយខែ។
        sum: {p} has a job at {w}.
        pts: {p} started a new job at {w} / in {y} / {p.he} now earns {a} a month
        q: Where does {p} work? At {w}.
        q: When did {p} start the new job? In {y}.
        q: How much does {p} earn a month? {a}.
        """,
        p=STAFF,
        w=WORKPLACE,
        y=YEAR,
        a=dollars(200, 990, 10),
    ),
    Template(
        """
        office_loan
        en: {p} borrowed {a} from the bank and will pay it back in {n} months.
        km: {p.s}បានខ្ចីប្រាក់ {a} ពីធនាគារ ហើយនឹងសងវិញក្នុងរយៈពេល {n} ខែ។
        sum: {p} borrowed {a}.
        pts: {p} borrowed {a} / from the bank / {p} will pay it back in {n} months
        q: How much did {p} borrow? {a}.
        q: Who borrowed {a} from the bank? {p}.
        q: In how many months will {p} pay it back? In {n} months.
        """,
        p=STAFF,
        a=dollars(100, 950, 10),
        n=number(2, 36),
    ),
    Template(
        """
        office_broken
        en: The {i} in room {r} is broken, so {p} cannot use it.
        km: {i}ក្នុងបន្ទប់លេខ {r} ខូច ដូច្នេះ{p.s}មិនអាចប្រើវាបានទេ។
        sum: The {i} is broken.
        pts: the {i} in room {r} is broken / {p} cannot use it
        q: What is broken? The {i} in room {r}.
        q: Which room is the {i} in? Room {r}.
        q: Who cannot use the {i}? {p}.
        """,
        i=OFFICE_MACHINE,
        r=ROOM,
        p=STAFF,
    ),
    Template(
        """
        office_meeting_moved
        en: The meeting on {d} was moved from {t} to {u}.
        km: ការប្រជុំនៅ{d} ត្រូវបានប្ដូរពី{t} ទៅ{u}។
        sum: The meeting on {d} was moved to {u}.
        pts: the meeting on {d} was moved / from {t} to {u}
        q: On what day is the meeting? On {d}.
        q: What is the new time of the meeting? {u}.
        q: What was the old time of the meeting? {t}.
        """,
        d=WEEKDAY,
        t=OFFICE_TIME,
        u=OFFICE_TIME,
    ),
    Template(
        """
        office_when_question
        en: When will {p} send the {i} to {q}?
        km: តើ{p.s}នឹងផ្ញើ{i}នោះទៅ{q} នៅពេលណា?
        sum: The question is about the {i}.
        pts: this is a question about the {i} / {p} will send the {i} / to {q}
        q: What will {p} send? The {i}.
        q: Who will {p} send the {i} to? {q}.
        q: Who will send the {i}? {p}.
        """,
        p=STAFF,
        i=DOCUMENT,
        q=STAFF,
    ),
    Template(
        """
        office_location
        en: {p}'s office is room {r} on floor {n}.
        km: ការិយាល័យរបស់{p.s}គឺបន្ទប់លេខ {r} នៅជាន់ទី{n}។
        sum: {p}'s office is room {r}.
        pts: {p}'s office / room {r} / on floor {n}
        q: Which room is {p}'s office? Room {r}.
        q: Which floor is {p}'s office on? Floor {n}.
        q: Whose office is room {r}? {p}'s.
        """,
        p=STAFF,
        r=ROOM,
        n=FLOOR,
    ),
    Template(
        """
        office_talk_passage
        en: {p} met {q} at {t}. They talked about the {i} for {n} minutes.
        km: {p.s}បានជួបជាមួយ{q} នៅ{t}។ ពួកគេបានពិភាក្សាអំពី{i}នោះអស់រយៈពេល {n} នាទី។
        sum: {p} and {q} talked about the {i}.
        pts: {p} met {q} at {t} / they talked about the {i} / for {n} minutes
        q: Who did {p} meet? {q}.
        q: What did {p} and {q} talk about? The {i}.
        q: How many minutes did they talk? {n} minutes.
        q: When did {p} meet {q}? At {t}.
        """,
        p=STAFF,
        q=STAFF,
        t=OFFICE_TIME,
        i=DOCUMENT,
        n=number(5, 90, 5),
    ),
)
