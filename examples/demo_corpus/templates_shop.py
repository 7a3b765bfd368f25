"""Sentence plans about markets, shops, prices and restaurants."""

from __future__ import annotations

from .goods import CLOTHES, COLOUR, DISH, DRINK, FOOD, FOR_SALE, FRESH_FOOD, FRUIT, LIQUID, SOLD
from .grammar import Template
from .lexicon import ANYONE, DAY, MARKET, PAST, PERSON
from .quantities import SMALL_PRICE, dollars, number, riel

SHOP = (
    Template(
        """
        shop_buy_kilograms
        en: {p} bought {n} kilograms of {f} at {m}.
        km: {p.s}បានទិញ{f} {n} គីឡូក្រាមនៅ{m}។
        sum: {p} bought {f}.
        pts: {p} bought {f} / {n} kilograms / at {m}
        q: Who bought {f}? {p}.
        q: What did {p} buy? {n} kilograms of {f}.
        q: How many kilograms of {f} did {p} buy? {n} kilograms.
        q: Where did {p} buy {f}? At {m}.
        """,
        p=ANYONE,
        n=number(2, 50),
        f=FOOD,
        m=MARKET,
    ),
    Template(
        """
        shop_price_today
        en: At {m}, {f} {f.cost} {r} a kilogram today.
        km: នៅ{m} {f}មានតម្លៃ {r} ក្នុងមួយគីឡូក្រាមនៅថ្ងៃនេះ។
        sum: {f} {f.cost} {r} a kilogram.
        pts: {f} at {m} / {r} a kilogram
        q: How much does a kilogram of {f} cost? {r}.
        q: Where {f.does} {f} cost {r} a kilogram? At {m}.
        """,
        m=MARKET,
        f=FOOD,
        r=SMALL_PRICE,
    ),
    Template(
        """
        shop_paid_passage
        en: {p} bought {n} kilograms of {f} at {m}. {p.he} paid {r}.
        km: {p.s}បានទិញ{f} {n} គីឡូក្រាមនៅ{m}។ គាត់បានបង់ប្រាក់ {r}។
        sum: {p} paid {r} for {f}.
        pts: {p} bought {n} kilograms of {f} / at {m} / {p.he} paid {r}
        q: How much did {p} pay? {r}.
        q: What did {p} buy? {n} kilograms of {f}.
        q: Where did {p} buy {f}? At {m}.
        """,
        p=PERSON,
        n=number(5, 20),
        f=FOOD,
        m=MARKET,
        r=riel(20000, 95000),
    ),
    Template(
        """
        shop_sells
        en: {p} sells {f} for {r} a kilogram.
        km: {p.s}លក់{f}ក្នុងតម្លៃ {r} ក្នុងមួយគីឡូក្រាម។
        sum: {p} sells {f}.
        pts: {p} sells {f} / for {r} a kilogram
        q: What does {p} sell? {f}.
        q: Who sells {f}? {p}.
        q: How much is a kilogram of {f}? {r}.
        """,
        p=ANYONE,
        f=FOOD,
        r=SMALL_PRICE,
    ),
    Template(
        """
        shop_this_that
        en: This {i} costs {a}, but that {j} costs {b}.
        km: {i}នេះមានតម្លៃ {a} ប៉ុន្តែ{j}នោះមានតម្លៃ {b}។
        sum: This {i} costs {a}.
        pts: this {i} costs {a} / that {j} costs {b}
        q: How much does this {i} cost? {a}.
        q: How much does that {j} cost? {b}.
        """,
        i=FOR_SALE,
        a=dollars(80, 690, 5),
        j=FOR_SALE,
        b=dollars(80, 690, 5),
    ),
    Template(
        """
        shop_price_question
        en: How much do {n} kilograms of {f} cost at {m}?
        km: តើ{f} {n} គីឡូក្រាមនៅ{m}ថ្លៃប៉ុន្មាន?
        sum: The question is about the price of {f}.
        pts: this is a question about a price / {n} kilograms of {f} / at {m}
        q: What is the question about? The price of {f}.
        q: How many kilograms of {f} is the question about? {n} kilograms.
        """,
        n=number(2, 30),
        f=FOOD,
        m=MARKET,
    ),
    Template(
        """
        shop_too_expensive
        en: {p} did not buy the {i} because it cost {a}.
        km: {p.s}មិនបានទិញ{i}នោះទេ ព្រោះវាមានតម្លៃ {a}។
        sum: {p} did not buy the {i}.
        pts: {p} did not buy the {i} / it cost {a}
        q: How much did the {i} cost? {a}.
        q: Why did {p} not buy the {i}? Because it cost {a}.
        q: What did {p} not buy? The {i}.
        """,
        p=ANYONE,
        i=FOR_SALE,
        a=dollars(80, 690, 5),
    ),
    Template(
        """
        shop_clothes
        en: {p} wants to buy {k.a} {i} for {a}.
        km: {p.s}ចង់ទិញ{i}{k}មួយ ក្នុងតម្លៃ {a}។
        sum: {p} wants to buy {i.a}.
        pts: {p} wants to buy {k.a} {i} / for {a}
        q: What does {p} want to buy? {k.a} {i}.
        q: What colour is the {i}? {k}.
        q: How much does the {i} cost? {a}.
        """,
        p=ANYONE,
        k=COLOUR,
        i=CLOTHES,
        a=dollars(3, 45),
    ),
    Template(
        """
        shop_litres
        en: {p} bought {n} litres of {f} for {r}.
        km: {p.s}បានទិញ{f} {n} លីត្រ ក្នុងតម្លៃ {r}។
        sum: {p} bought {f}.
        pts: {p} bought {f} / {n} litres / for {r}
        q: What did {p} buy? {n} litres of {f}.
        q: How many litres of {f} did {p} buy? {n} litres.
        q: How much did {p} pay? {r}.
        """,
        p=ANYONE,
        n=number(2, 20),
        f=LIQUID,
        r=riel(6000, 95000, 1000),
    ),
    Template(
        """
        shop_ordered
        en: {p} ordered {n} {a.pl} and {m} {b.pl}.
        km: {p.s}បានកម្ម៉ង់{a} {n} {a.cl} និង{b} {m} {b.cl}។
        sum: {p} ordered food and drinks.
        pts: {p} ordered {n} {a.pl} / {p} ordered {m} {b.pl}
        q: Who ordered {n} {a.pl}? {p}.
        q: How many {a.pl} did {p} order? {n} {a.pl}.
        q: How many {b.pl} did {p} order? {m} {b.pl}.
        """,
        p=ANYONE,
        n=number(2, 9),
        a=DISH,
        m=number(2, 9),
        b=DRINK,
    ),
    Template(
        """
        shop_sold
        en: This shop sold {n} {i.pl} on {d}.
        km: ហាងនេះបានលក់{i} {n} {i.cl}នៅ{d}។
        sum: The shop sold {i.pl}.
        pts: the shop sold {n} {i.pl} / on {d}
        q: What did the shop sell on {d}? {n} {i.pl}.
        q: How many {i.pl} did the shop sell? {n} {i.pl}.
        q: On what day did the shop sell {n} {i.pl}? On {d}.
        """,
        n=number(2, 150),
        i=SOLD,
        d=DAY,
    ),
    Template(
        """
        shop_price_fell
        en: The price of the {i} went down from {a} to {b}.
        km: តម្លៃ{i}នោះបានធ្លាក់ចុះពី {a} មក {b}។
        sum: The {i} is cheaper now.
        pts: the price of the {i} went down / from {a} / to {b}
        q: What was the old price of the {i}? {a}.
        q: What is the new price of the {i}? {b}.
        q: What became cheaper? The {i}.
        """,
        i=FOR_SALE,
        a=dollars(350, 950, 5),
        b=dollars(50, 340, 5),
    ),
    Template(
        """
        shop_fruit_each
        en: {p} bought {n} {i.pl} for {r} each.
        km: {p.s}បានទិញ{i} {n} {i.cl} តម្លៃ {r} ក្នុងមួយផ្លែ។
        sum: {p} bought {i.pl}.
        pts: {p} bought {n} {i.pl} / for {r} each
        q: How many {i.pl} did {p} buy? {n} {i.pl}.
        q: How much did {i.a} cost? {r}.
        q: Who bought {i.pl}? {p}.
        """,
        p=ANYONE,
        n=number(2, 30),
        i=FRUIT,
        r=SMALL_PRICE,
    ),
    Template(
        """
        shop_have_question
        en: Do you have {n} kilograms of fresh {f} and {m} kilograms of {g}?
        km: តើអ្នកមាន{f}ស្រស់ {n} គីឡូក្រាម និង{g} {m} គីឡូក្រាមដែរឬទេ?
        sum: The question is about {f} and {g}.
        pts: this is a question about food / {n} kilograms of fresh {f} / {m} kilograms of {g}
        q: How many kilograms of fresh {f} does the speaker want? {n} kilograms.
        q: How many kilograms of {g} does the speaker want? {m} kilograms.
        """,
        n=number(2, 30),
        f=FRESH_FOOD,
        m=number(2, 30),
        g=FOOD,
    ),
    Template(
        """
        shop_request
        en: Please give me {n} kilograms of {f} and {m} litres of {g}.
        km: សូមឱ្យ{f} {n} គីឡូក្រាម និង{g} {m} លីត្រមកខ្ញុំ។
        sum: The speaker wants {f} and {g}.
        pts: the speaker wants {f} and {g} / {n} kilograms of {f} / {m} litres of {g}
        q: How many kilograms of {f} does the speaker want? {n} kilograms.
        q: How many litres of {g} does the speaker want? {m} litres.
        q: What does the speaker want? {f} and {g}.
        """,
        n=number(2, 30),
        f=FOOD,
        m=number(2, 12),
        g=LIQUID,
    ),
    Template(
        """
        shop_cheaper
        en: At {m}, {f} {f.is} cheaper than {g}.
        km: នៅ{m} {f}មានតម្លៃថោកជាង{g}។
        sum: {f} {f.is} cheaper than {g}.
        pts: at {m} / {f} {f.is} cheaper than {g}
        q: What is cheaper, {f} or {g}? {f}.
        q: Where {f.is} {f} cheaper than {g}? At {m}.
        """,
        m=MARKET,
        f=FOOD,
        g=FOOD,
    ),
    Template(
        """
        shop_market_passage
        en: {p} went to {m} {w}. {p.he} bought {n} kilograms of {f} and {k} {i.pl}.
        km: {p.s}បានទៅ{m} {w}។ គាត់បានទិញ{f} {n} គីឡូក្រាម និង{i} {k} {i.cl}។
        sum: {p} bought {f} and {i.pl}.
        pts: {p} went to {m} {w} / {p.he} bought {n} kilograms of {f} / {p.he} bought {k} {i.pl}
        q: Where did {p} go? To {m}.
        q: When did {p} go to {m}? {w}.
        q: How many kilograms of {f} did {p} buy? {n} kilograms.
        q: How many {i.pl} did {p} buy? {k} {i.pl}.
        """,
        p=PERSON,
        m=MARKET,
        w=PAST,
        n=number(2, 20),
        f=FOOD,
        k=number(2, 12),
        i=FRUIT,
    ),
    Template(
        """
        shop_no_more
        en: The shop has no more {f}, but it still has {n} kilograms of {g}.
        km: ហាងអស់{f}ហើយ ប៉ុន្តែនៅមាន{g} {n} គីឡូក្រាមទៀត។
        sum: The shop has no more {f}.
        pts: the shop has no more {f} / it still has {n} kilograms of {g}
        q: What does the shop have no more of? {f}.
        q: How many kilograms of {g} does the shop still have? {n} kilograms.
        """,
        f=FOOD,
        n=number(2, 90),
        g=FOOD,
    ),
)
