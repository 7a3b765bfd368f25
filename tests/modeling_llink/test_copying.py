"""Numbers of an answer are those of its prompt, however a vocabulary cuts them."""

import re
from functools import cache

import pytest
import torch
from digit_tokenizers import NAMES, digits_alone, make
from hypothesis import given
from hypothesis import strategies as st
from transformers import LogitsProcessorList, PreTrainedTokenizerFast

from llink.modeling_llink.copying import KINDS, Answer, CopyNumbers, Vocabulary, asks_for_translation, numbers_of
from llink.modeling_llink.prompts import DEFAULT_PROMPT

SLOTS = 3
PROMPT = "Translate to English. On 2021-03-04 at 7:30 COVID-19: 1,000 of 45.000 paid 3.5 and 590, 8 times."


@pytest.fixture(params=NAMES)
def tokenizer(request):
    return make(request.param)


def rows_of(tokenizer, *texts) -> torch.Tensor:
    """Prompts (B, S) with slots in their midst, padded on the left."""
    start, rows = len(tokenizer), []
    for text in texts:
        cut = len(text) if " " not in text else text.rindex(" ")
        ids = [tokenizer.encode(part, add_special_tokens=False) for part in (text[:cut], text[cut:])]
        rows.append([*ids[0], *range(start, start + SLOTS), *ids[1]])
    longest = max(map(len, rows))
    return torch.tensor([[tokenizer.pad_token_id] * (longest - len(row)) + row for row in rows])


def processor_of(tokenizer, *texts, **options) -> CopyNumbers:
    return CopyNumbers(tokenizer, rows_of(tokenizer, *texts), len(tokenizer), **options)


def greedy(tokenizer, prompt, wish, steps=99, start="") -> tuple[str, bool]:
    """What a model writes whose scores at each step are `wish(step, ids so far)`, and whether it came to an end."""
    ids, new = rows_of(tokenizer, prompt), tokenizer.encode(start, add_special_tokens=False)
    process = CopyNumbers(tokenizer, ids, len(tokenizer))
    for step in range(steps):
        now = torch.cat([ids, torch.tensor([new], dtype=torch.long)], dim=1)
        token = int(process(now, wish(step, new)).argmax())
        if token == tokenizer.eos_token_id:
            return tokenizer.decode(new, skip_special_tokens=True), True
        new.append(token)
    return tokenizer.decode(new, skip_special_tokens=True), False


def write(tokenizer, prompt, answer) -> str:
    """What comes of a model that means to write `answer`, and after a slip goes on with the digits that it may."""
    target = [*tokenizer.encode(answer, add_special_tokens=False), tokenizer.eos_token_id]
    vocabulary = Vocabulary.of(tokenizer)
    generator = torch.Generator().manual_seed(0)

    def wish(step, new):
        scores = torch.rand(1, len(tokenizer), generator=generator)
        scores[0, vocabulary.kinds[: len(tokenizer)] == len(KINDS)] += 1
        scores[0, target[min(step, len(target) - 1)]] = 10
        return scores

    return greedy(tokenizer, prompt, wish)[0]


# ------------------------------------------------------------------ what a prompt's numbers are


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("1,000 and 1.000.000,50", [["1.000"], ["1.000.000.50"]]),
        ("3.5; 3,5", [["3.5"], ["3.5"]]),
        ("10 000 of 1\u00a0500 or 2'500", [["10", "000"], ["1.500"], ["2.500"]]),
        ("2021-03-04, 04.03.2021 4/3", [["2021", "03", "04"], ["04", "03", "2021"], ["4", "3"]]),
        ("at 7:30. In 2021 300 came", [["7", ":30"], ["2021"], ["300"]]),
        ("COVID-19, H1N1, A4, 25km, 1st", [["19"], ["1"], ["1"], ["4"], ["25"], ["1"]]),
        ("1.5-2.5 or 192.168.1.1", [["1.5", "2.5"], ["192", "168", "1", "1"]]),
        ("១២ ２", []),
    ],
)
def test_numbers_of_a_text(text, parts):
    assert [list(number) for number in numbers_of(text)] == parts


def test_slots_special_tokens_and_padding_end_numbers(tokenizer):
    start = len(tokenizer)
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False)  # noqa: E731
    ids = (
        [tokenizer.eos_token_id] * 3 + encode("x 12") + [start] + encode("34") + [tokenizer.eos_token_id] + encode("5")
    )
    if "<|reserved_7|>" in tokenizer.get_vocab():
        ids += [tokenizer.convert_tokens_to_ids("<|reserved_7|>")]
    (stock,) = CopyNumbers(tokenizer, torch.tensor([ids]), start).stocks
    assert stock == (("12",), ("34",), ("5",))


# ------------------------------------------------------------------ what an answer may hold


RIGHT = [
    "On 4 March 2021 at 7:30 a.m. 1000 of 45,000 paid 3.5 and 590, 8 times (COVID-19)",
    "On 03/04/2021 at 7.30am 1.000 of 45000km paid 3,5 for the 8th and 590th",
    "In 2021-03-04, 1,000, 45.000: 8",
    "1. at 7 or 30\n2) on\n **3.** eight times 8.\n4. the 590s",
    "8\n- 1,000",
    "On the mat, eight times",
]


@pytest.mark.parametrize("answer", RIGHT)
def test_it_does_nothing_to_a_right_answer(tokenizer, answer):
    assert write(tokenizer, PROMPT, answer) == answer


@pytest.mark.parametrize(
    ("answer", "instead"),
    [
        ("the 509 mats", "the 590"),  # digits that changed places
        ("the 88 mats", "the 8"),  # digits twice
        ("the 59 mats", "the 590"),  # one lost
        ("the 5900 mats", "the 590"),  # one too many
        ("the 35 mats", "the 3[.0]?"),  # no point lost
        ("the 45 mats", "the 45.?000"),  # nor a thousand
        ("the 45", "the 45.?000"),  # nor at the end
    ],
)
def test_slips_are_prevented(tokenizer, answer, instead):
    out = write(tokenizer, PROMPT, answer)
    assert out != answer
    assert re.match(f"{instead}(?![0-9])", out)
    assert explained(out, list(numbers_of(PROMPT)))


def test_the_minutes_may_follow_the_hour(tokenizer):
    for backwards in ("30:7", "30 of 7", "30"):
        assert not write(tokenizer, "at 7:30", backwards).startswith("3")
    for answer in ("7 or 30", "7:30", "7.30"):
        assert write(tokenizer, "at 7:30", answer) == answer


@pytest.mark.parametrize(
    "answer", ["a 590 and a 590", "a 2021 in 2021", "a 3.5 and 3,5", "a 19 of 19", "a 2021 on 2021-03-04"]
)
def test_a_number_is_used_as_often_as_it_stands_there(tokenizer, answer):
    assert write(tokenizer, PROMPT, answer) != answer
    assert write(tokenizer, f"{PROMPT} {PROMPT}", answer) == answer


def test_a_prompt_without_digits(tokenizer):
    assert re.fullmatch(r"the \D*", write(tokenizer, "Translate to English. the cat", "the 7 mats on 30"))
    listed = "1. the cat\n2. the mat\n3) on\n"
    assert write(tokenizer, "the cat", listed) == listed
    assert write(tokenizer, "the cat", "2. the cat") != "2. the cat", "items come in order"
    assert write(tokenizer, "the cat", "1.5 the cat") != "1.5 the cat", "no item"
    assert write(tokenizer, "the cat", "1 the cat") != "1 the cat", "no item"


# ------------------------------------------------------------------ whatever is written


def freed(parts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(part.removeprefix(":") if place == 0 else part for place, part in enumerate(parts))


def explained(text: str, stock: list[tuple[str, ...]]) -> bool:
    """Whether the digits of a text are those of numbers (of parts), each part once: tries every way."""
    runs = [(match.start(), match.end()) for match in re.finditer("[0-9]+", text)]

    @cache
    def rest(place: int, stock: tuple[tuple[str, ...], ...]) -> bool:
        if place == len(runs):
            return True
        spelled = ""
        for stop in range(place, len(runs)):
            if stop > place and not re.fullmatch("[.,:]", text[runs[stop - 1][1] : runs[stop][0]]):
                break
            spelled += text[slice(*runs[stop])]
            for number in set(stock):
                for i in (i for i, part in enumerate(number) if part[0] != ":"):
                    for j in range(i + 1, len(number) + 1):
                        whole = re.sub("[^0-9]", "", "".join(number[i:j]))
                        if spelled in (whole, whole[1:] if re.fullmatch("0.", whole) else whole):
                            left = list(stock)
                            left.remove(number)
                            left += [part for part in (number[:i], freed(number[j:])) if part]
                            if rest(stop + 1, tuple(sorted(left))):
                                return True
        return False

    return rest(0, tuple(sorted(stock)))


NUMBERS = st.lists(
    st.sampled_from(
        [
            "2021-03-04",
            "7:30",
            "1,000",
            "3.5",
            "590",
            "8",
            "88",
            "10 000",
            "1.5-2.5",
            "04.03.2021",
            "25",
            "2",
            "20",
            "120",
        ]
    ),
    max_size=6,
)


@pytest.mark.parametrize("name", NAMES)
@given(numbers=NUMBERS, seed=st.integers(0, 2**20))
def test_digits_are_copied_whatever_is_written(name, numbers, seed):
    tokenizer, prompt = make(name), "; ".join(["the cat", *numbers])
    vocabulary = Vocabulary.of(tokenizer)
    banned = torch.tensor(["\n" in piece or piece == "\0" for piece in vocabulary.pieces])
    banned[tokenizer.eos_token_id] = False
    if name == "▁":  # whose decoder spoils the digits among bytes if these are no text together
        banned |= torch.tensor([len(piece) == 1 and not piece.isascii() for piece in vocabulary.pieces])
    torch.manual_seed(seed)

    def wish(step, new):
        scores = torch.randn(1, len(tokenizer))
        scores += 2.0 * (vocabulary.kinds == len(KINDS)) + 1.0 * (
            (vocabulary.kinds > 0) & (vocabulary.kinds < len(KINDS))
        )
        return scores.masked_fill(banned, -torch.inf)

    out, ended = greedy(tokenizer, prompt, wish, steps=60, start="a")
    if not ended:
        out = re.sub("[0-9.,:]+$", "", out)
    assert explained(out, list(numbers_of(prompt))), (prompt, out)


def test_the_property_is_not_vacuous():
    assert explained("a 2021, 590", [("590",), ("2021", "03", "04")])
    assert not explained("a 509", [("590",)])
    assert not explained("a 8 8", [("8",)])
    tokenizer, prompt = make("alone"), "the cat 590 88 1,000"
    with_digits = Vocabulary.of(tokenizer).kinds == len(KINDS)
    torch.manual_seed(0)
    out, _ = greedy(tokenizer, prompt, lambda *_: torch.randn(1, len(tokenizer)) + 3 * with_digits, start="a")
    assert sorted(re.sub("[^0-9]", "", number) for number in re.findall("[0-9][0-9.,]*", out)) == ["1000", "590", "88"]


# ------------------------------------------------------------------ rows, beams, vocabularies


def test_each_row_has_its_own_prompt_and_text_alone_is_free():
    tokenizer = make("alone")
    one, two = tokenizer.convert_tokens_to_ids(["1", "2"])
    prompts = rows_of(tokenizer, "the cat 12", "the cat 21", "the cat 1")
    prompts[2][prompts[2] >= len(tokenizer)] = tokenizer.pad_token_id  # no slots
    process = CopyNumbers(tokenizer, prompts, len(tokenizer))
    new = torch.tensor([tokenizer.encode(" a ", add_special_tokens=False)] * 6)
    scores = torch.randn(6, len(tokenizer) + 7)  # some decoders have more columns than tokens
    out = process(torch.cat([prompts.repeat_interleave(2, dim=0), new], dim=1), scores)
    allowed = out.isfinite()
    assert allowed[:, [one, two]].tolist() == [[True, False]] * 2 + [[False, True]] * 2 + [[True, True]] * 2
    assert torch.equal(out[4:], scores[4:])
    assert torch.equal(out[allowed], scores[allowed])
    assert allowed[:, len(tokenizer) :].all()
    process = CopyNumbers(tokenizer, prompts, len(tokenizer))
    narrow = process(torch.cat([prompts, new[:3]], dim=1), scores[:3, : one + 1])  # and some have fewer
    assert narrow.isfinite()[:, one].tolist() == [True, False, True]
    with pytest.raises(ValueError, match="4 rows of scores do not come from 3 prompts"):
        process(prompts[[0, 1, 2, 2]], scores[:4])


def test_rows_that_are_not_chosen_are_free():
    tokenizer = make("alone")
    process = processor_of(tokenizer, "the cat", "the cat", rows=[False, True])
    scores = torch.zeros(2, len(tokenizer))
    out = process(rows_of(tokenizer, "the cat", "the cat"), scores)
    assert torch.equal(out[0], scores[0])
    assert not torch.equal(out[1], scores[1])
    none = processor_of(tokenizer, "the cat", rows=[False])
    assert none(rows_of(tokenizer, "the cat"), scores[:1]) is not None
    assert torch.equal(none(rows_of(tokenizer, "the cat"), scores[:1]), scores[:1])


def test_a_row_that_cannot_go_on_keeps_its_scores():
    tokenizer = make("alone")
    prompts = rows_of(tokenizer, "the cat 590", "the cat 590")
    process = CopyNumbers(tokenizer, prompts, len(tokenizer))
    new = torch.tensor([tokenizer.encode(text, add_special_tokens=False) for text in ("a5", "ab")])
    only = torch.full((2, len(tokenizer)), -torch.inf)
    only[:, tokenizer.eos_token_id] = 1.0
    assert torch.equal(process(torch.cat([prompts, new], dim=1), only), only)
    # A token that was forced on the answer uses up nothing.
    forced = torch.tensor([tokenizer.encode(text, add_special_tokens=False) for text in ("a99 ", "abc ")])
    out = process(torch.cat([prompts, forced], dim=1), torch.zeros(2, len(tokenizer)))
    assert torch.equal(out[0], out[1])


def test_steps_are_what_the_whole_answer_says(tokenizer):
    """A processor that saw each step, one that sees the whole at once, and one whose beams changed places agree."""
    prompts = rows_of(tokenizer, PROMPT)
    answers = [tokenizer.encode(answer, add_special_tokens=False)[:12] for answer in RIGHT[:3]]
    rows = torch.cat([prompts.expand(3, -1), torch.tensor(answers)], dim=1)
    scores = torch.zeros(3, len(tokenizer))
    stepwise = CopyNumbers(tokenizer, prompts, len(tokenizer))
    for length in range(prompts.shape[1], rows.shape[1] + 1):
        order = torch.randperm(3, generator=torch.Generator().manual_seed(length))
        out = stepwise(rows[order, :length], scores)
        assert torch.equal(out, CopyNumbers(tokenizer, prompts, len(tokenizer))(rows[order, :length], scores))


@pytest.mark.parametrize(
    "options",
    [dict(num_beams=3, num_return_sequences=2), dict(do_sample=True, num_return_sequences=3), dict()],
    ids=["beams", "samples", "greedy"],
)
def test_generation(model, options):
    prompts = ["Translate to English. 590 and 2021-03-04", "Translate to English. 8"]
    inputs = model.processor(prompts, ["the cat", "a dog"])
    start = model.config.reserved_token_start
    process = CopyNumbers(model.processor.tokenizer, inputs["input_ids"], start)
    with_digits = Vocabulary.of(model.processor.tokenizer).kinds == len(KINDS)

    def likes_digits(input_ids, scores):
        return scores + 40.0 * with_digits[: scores.shape[1]]

    torch.manual_seed(0)
    options = dict(max_new_tokens=24, **options)
    free = model.generate(**inputs, **options, logits_processor=LogitsProcessorList([likes_digits]))
    torch.manual_seed(0)
    out = model.generate(**inputs, **options, logits_processor=LogitsProcessorList([likes_digits, process]))
    each = len(out) // 2
    for row, (ids, wild) in enumerate(zip(out, free, strict=True)):
        text, wild = (model.processor.tokenizer.decode(i[inputs["input_ids"].shape[1] :]) for i in (ids, wild))
        stock = list(numbers_of(prompts[row // each]))
        assert not explained(wild, stock), "vacuous unless the model makes numbers up"
        assert re.search("[0-9]", text), "vacuous without digits"
        answer = Answer(tuple(stock)).after(text)
        assert answer is not None, text


def test_a_vocabulary_is_read_once_and_anew_when_tokens_are_added():
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=digits_alone(), eos_token="<|end|>")
    first = Vocabulary.of(tokenizer)
    assert Vocabulary.of(tokenizer) is first
    tokenizer.add_tokens(["a12b"])
    assert Vocabulary.of(tokenizer).pieces[-1] == "a12b"
    assert "1" in Vocabulary.of(tokenizer).with_digits["a"]


def test_bytes_and_special_tokens_of_a_vocabulary():
    vocabulary = Vocabulary.of(make("▁"))
    ids = make("▁").convert_tokens_to_ids(["<0x37>", "<0x0A>", "<0xE1>", "<|reserved_7|>", "<tool_2>", "▁20", "Ġ"])
    assert [vocabulary.pieces[i] for i in ids] == ["7", "\n", "á", "\0", "<tool_2>", " 20", "Ġ"]


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        (DEFAULT_PROMPT, True),
        ("Give me a TRANSLATION of this", True),
        ("translating this is your task", True),
        ("Summarize in English.", False),
        ("mistranslated?", False),
    ],
)
def test_whether_a_translation_is_asked_for(text, asks):
    assert asks_for_translation(text) is asks
