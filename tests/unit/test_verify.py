import re
from collections.abc import Iterable, Iterator
from random import Random
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any

import pytest

from neuromas.tasks import number, verify
from neuromas.tasks.verify import GOLD_READERS, READERS, read_choice, read_exact, read_label, read_number


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Paris", "paris"),
        ("  The\n  Hague. ", "the hague"),
        ('"ＡＢＣ"!', "abc"),
        ("so A= 7 .", "so a= 7"),
        ("**yes**", "yes"),
        (" . ", None),
        ("", None),
    ],
)
def test_exact_ignores_case_spacing_and_surrounding_punctuation(text: str, answer: str | None) -> None:
    assert read_exact(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("She sold 48/2 = 24 clips.\n#### 72", "72"),
        ("#### 1,000", "1000"),
        ("#### -3", "-3"),
        ("#### $1,234.50 in 2 years", "2469/2"),
        ("#### 5\nWait, 6.\n#### 7", "7"),
        ("The answer is 1,234,567.", "1234567"),
        ("first 1,2,3", "3"),
        ("It is 0.50", "1/2"),
        ("It is 1/2.", "1/2"),
        ("It is 3 / 4", "3/4"),
        (r"\boxed{\frac{6}{8}}", "3/4"),
        ("x = -7", "-7"),
        ("x = \N{MINUS SIGN}7", "-7"),
        ("10-3", "3"),
        ("10 - 3", "3"),
        ("-$5", "-5"),
        ("50%", "50"),
        (".25", "1/4"),
        ("42.0", "42"),
        ("of x2 and n3", None),
        ("7, by rule r2", "7"),
        ("1/0", None),
        ("9" * 5000, "9" * 5000),
        ("no number", None),
        ("", None),
    ],
)
def test_number_is_the_marked_one_or_the_last(text: str, answer: str | None) -> None:
    assert read_number(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("B", "B"),
        (" (c). ", "C"),
        ("The answer is (D).", "D"),
        ("Answer: **B** because A is wrong", "B"),
        ("option C, I think", "C"),
        (r"hence \boxed{E}", "E"),
        ("It cannot be A or B, so C", "C"),
        ("(B) it is. I am sure", "B"),
        ("A is right", "A"),
        ("A dog barks", None),
        ("I don't know", None),
        ("none", None),
        ("", None),
    ],
)
def test_choice_is_the_named_letter_or_the_last_lone_capital(text: str, answer: str | None) -> None:
    assert read_choice(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is Paris.", "paris"),
        ("I looked it up.\n**Answer:** Paris", "paris"),
        (r"So \boxed{\text{New York}} it is.", "new york"),
        ("The answer is St. Louis.", "st. louis"),
        ("The answer is not Rome, it is Paris", "paris"),
        ("#### Paris", "paris"),
        ("Rome. The answer is Paris. It is the capital.", "paris"),
    ],
)
def test_exact_finds_what_is_announced(text: str, answer: str) -> None:
    assert read_exact(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("1e-5", "1/100000"),
        ("1.2e19", "12000000000000000000"),
        ("1.5E3", "1500"),
        ("2e+2", "200"),
        (r"1.5 \times 10^3", "1500"),
        (r"1.5 \times 10^{-3}", "3/2000"),
        ("3 × 10^2", "300"),
        ("10{,}080", "10080"),
        (r"1\,000", "1000"),
        (r"1\,234\,567", "1234567"),
        ("1\N{NARROW NO-BREAK SPACE}000", "1000"),
        ("1\N{THIN SPACE}000.5", "2001/2"),
        ("1'000", "1000"),
        ("1_000", "1000"),
        ("1,00,000", "100000"),
        ("1 1/2", "3/2"),
        ("-1 1/2", "-3/2"),
        (r"1\frac{1}{2}", "3/2"),
        ("2½", "5/2"),
        ("½", "1/2"),
        (r"\cfrac{3}{4}", "3/4"),
        (r"\dfrac{3}{4}", "3/4"),
        (r"\frac12", "1/2"),
        (r"\frac{1}2", "1/2"),
        (r"-\frac{3}{4}", "-3/4"),
        (r"\frac{-3}{4}", "-3/4"),
        ("- 5", "-5"),
        ("x = - 5", "-5"),
        ("\N{EN DASH}5", "-5"),
        ("\N{MINUS SIGN}1,000", "-1000"),
        ("eggs - 5 of them", "5"),
        ("+5", "5"),
        ("$-5", "-5"),
        ("€ 5", "5"),
        ("5 €", "5"),
        (r"\$1,234.50", "2469/2"),
        (r"50\%", "50"),
        ("$5$.", "5"),
        (r"\(5\)", "5"),
        ("5.", "5"),
        ("5.0.", "5"),
        ("007", "7"),
        ("-0", "0"),
        ("1.5 million", "1500000"),
        ("３，０００", "3000"),
        ("5kg", "5"),
        ("1.2.3", None),
        ("7/9/1972", None),
        ("1e999999999", None),
        ("1e5000", None),
        ("0." + "3" * 500, None),
        ("-" + "7" * 5000, "-" + "7" * 5000),
        ("7" * 5000 + ".0", "7" * 5000),
    ],
)
def test_numbers_are_read_as_they_are_written(text: str, answer: str | None) -> None:
    assert read_number(text) == answer
    if not text.startswith("- "):  # a dash, after a word
        assert read_number(f"It is {text}") == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{42}. I checked 3 times", "42"),
        (r"\boxed{\sqrt{2}}", None),
        (r"4 of \boxed{2\sqrt{3}}", None),
        (r"\boxed{2\pi}", None),
        (r"\boxed{2^{10}}", None),
        (r"\boxed{x + 1}", None),
        (r"\boxed{1, 2}", None),
        (r"\boxed{5 \text{ or } 6}", None),
        (r"\boxed{}", None),
        (r"\boxed{-\dfrac{3}{4}}", "-3/4"),
        (r"\boxed{\frac{1}{\frac{1}{2}}}", None),
        (r"\boxed{\text{42}}", "42"),
        (r"\boxed{\mathbf{42}}", "42"),
        (r"$\boxed{10{,}080}$", "10080"),
        (r"\boxed{x = 5}", "5"),
        (r"\boxed{42 \text{ cm}^2}", "42"),
        (r"\boxed{42 apples}", "42"),
        (r"\boxed{\$18}", "18"),
        (r"\boxed{90^\circ}", "90"),
        (r"\boxed{\boxed{5}} and 6", "5"),
        (r"\boxed{5} no, \boxed{6}", "6"),
        (r"\boxed{5} and \boxed{6", "5"),
        (r"The answer is 3. \boxed{4}", "4"),
        ("The answer is 42. I checked 3 times", "42"),
        ("The answer is 3 + 4 = 7.", "7"),
        ("The answer is 42 since 6 * 7 = 42", "42"),
        ("The answer is 7 = 3 + 4.", "7"),
        ("The answer is 3 + 4", None),
        (r"4, so the answer is $\sqrt{2}$.", None),
        (r"2, so the answer is $2\pi$.", None),
        ("2 tries. The answer is unknown", None),
        ("The answer is: **42**. Bye 7", "42"),
        ("The final answer to question 2 is $1,234.50, not 3", "2469/2"),
        ("Answer: 42 because 2", "42"),
        ("Answer: First 3 + 4 = 7. Then 7 * 2 = 14.", "14"),
        ("Answer:\n\n- 5", "-5"),
        ("The answer is 5. No, the answer is 6. 7", "6"),
        ("#### 3+4=7", "7"),
        ("The answer is 5.\n#### 6 of 7", "6"),
        ("#### Step 2\n5+3=8. The answer is 8.", "8"),
    ],
)
def test_a_boxed_or_announced_number_outranks_the_last(text: str, answer: str | None) -> None:
    assert read_number(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("She sold 48/2 = 24 clips.\n#### 72", "72"),
        ("#### 1,080", "1080"),
        ("$18", "18"),
        ("50%", "50"),
        (r"so \boxed{\frac{1}{2}}.", "1/2"),
        ("1 1/2", "3/2"),
        ("10{,}080", "10080"),
        ("x = 5", "5"),
        ("8" * 5000, "8" * 5000),
        ("5 or 6", None),
        ("12 eggs", None),
        ("3,5", None),
        ("2x", None),
        (r"\sqrt{2}", None),
        (r"2\pi", None),
        ("07/09/1972", None),
        ("3:30", None),
        ("one", None),
        ("", None),
        ("#### 5\nor 6", None),
    ],
)
def test_a_right_number_is_read_whole_or_not_at_all(text: str, answer: str | None) -> None:
    assert GOLD_READERS["number"](text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"B or \boxed{\text{(C)}}, not A", "C"),
        (r"\boxed{\textbf{D}}", "D"),
        ("The answer is (b).", "B"),
        ("The answer to this question is option C. A is wrong", "C"),
        ("Answer: because A is wrong, B", "B"),
        ("answer" + " " * 1000 + "is B", "B"),
    ],
)
def test_a_boxed_or_announced_letter_outranks_others(text: str, answer: str) -> None:
    assert read_choice(text) == answer


@pytest.mark.parametrize(
    ("text", "choices", "answer"),
    [
        ("... so True.", ("True", "False"), "true"),
        ("False? No: TRUE", ("True", "False"), "true"),
        ("The answer is False. True would need a turn.", ("True", "False"), "false"),
        (r"True or \boxed{False}", ("True", "False"), "false"),
        ("dark red", ("red", "dark red"), "dark red"),
        ("It is reddish", ("red",), None),
        ("Alice has the  blue\npresent.", ("yellow present.", "blue present."), "blue present"),
        ("so (C++)", ("C", "C++"), "c++"),
        ("nothing", ("True", "False"), None),
        ("True", (), None),
    ],
)
def test_a_label_is_one_of_the_choices(text: str, choices: tuple[str, ...], answer: str | None) -> None:
    assert read_label(text, choices) == answer


@pytest.mark.parametrize(
    ("verifier", "text", "answer"),
    [
        ("exact", "The answer is Paris", "paris"),
        ("exact", "Dr. No", "dr. no"),
        ("choice", "(C)", "C"),
        ("choice", "#### b", "B"),
        ("choice", "C or D", None),
        ("choice", "é", None),
        ("label", "True.", "true"),
        ("label", "Maybe", None),
    ],
)
def test_right_answers_are_read_whole_by_every_verifier(verifier: str, text: str, answer: str | None) -> None:
    assert GOLD_READERS[verifier](text, ("True", "False")) == answer


HOSTILE = [
    "answer ",
    "answer" + " " * 50,
    "the answer is ",
    "####",
    r"\boxed{",
    r"\boxed{}",
    "{",
    "}",
    r"\frac{1}{",
    r"\frac",
    "1,000,",
    "1,0",
    "1.",
    "1",
    "0.1e",
    "1e5",
    "- ",
    "-",
    "$",
    "1/",
    "1 1/",
    "1 + ",
    "1 = ",
    "A ",
    "A",
    "(",
    "\\",
    "'",
    "Dr. ",
    "x = ",
    "a\N{THIN SPACE}",
    "true",
    "\N{ARABIC LETTER ALEF}\N{ARABIC-INDIC DIGIT ONE}",
    "\x00",
    "🙂",
]


@pytest.mark.parametrize("piece", HOSTILE)
@pytest.mark.parametrize("verifier", READERS)
def test_long_hostile_texts_are_read_to_their_end(verifier: str, piece: str) -> None:
    # A reader of quadratic time would take a billion steps for each of these.
    long = piece * (30_000 // len(piece))
    for text in (long, f"answer is {long}7", f"{long}{'}' * 30_000}"):
        READERS[verifier](text, ("true", "false"))
        GOLD_READERS[verifier](text, ("true", "false"))


def patterns() -> list[re.Pattern[str]]:
    names = {**vars(number), **vars(verify)}
    nested = [item for value in names.values() if isinstance(value, tuple) for entry in value for item in entry]
    found = {value for value in (*names.values(), *nested) if isinstance(value, re.Pattern)}
    return sorted(found, key=lambda pattern: pattern.pattern)


@pytest.mark.parametrize("pattern", patterns(), ids=lambda pattern: pattern.pattern[:40])
def test_no_pattern_can_scan_the_same_text_twice(pattern: re.Pattern[str]) -> None:
    """Linear by construction: repeats are bounded, but for one of single characters at the very end of a pattern.

    So an attempt to match takes a bounded number of steps, or steps that the match it ends with pays for.
    """
    parsed = list(_parser.parse(pattern.pattern, pattern.flags))
    last = parsed[-1]
    while last[0] is _constants.SUBPATTERN and len(last[1][3]):
        last = list(last[1][3])[-1]
    assert all(repeat <= 100 or item is last for repeat, item in repeats(parsed))
    if last[0] is _constants.MAX_REPEAT and last[1][1] > 100:
        assert len(last[1][2]) == 1


def repeats(items: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    """Yield every repeat with its upper bound, however deep it stands."""
    for item in items:
        kind, argument = item
        if kind in (_constants.MAX_REPEAT, _constants.MIN_REPEAT, _constants.POSSESSIVE_REPEAT):
            yield int(argument[1]), item
        for part in argument if isinstance(argument, tuple | list) else (argument,):
            if isinstance(part, _parser.SubPattern):
                yield from repeats(part)
            elif isinstance(part, list):
                for branch in part:
                    if isinstance(branch, _parser.SubPattern):
                        yield from repeats(branch)


@pytest.mark.parametrize("verifier", READERS)
def test_readers_never_fail(verifier: str) -> None:
    random = Random(0)
    pieces = [*HOSTILE, "5", "Paris", ".", " ", "\n", "^", r"\sqrt{", r"\text{", "½", "%", "is", "B)"]
    for _ in range(2000):
        text = "".join(random.choices(pieces, k=random.randrange(12)))
        answer = READERS[verifier](text, ("true", "false"))
        if verifier in ("exact", "math"):  # of a box may hold an announcement
            continue
        assert answer is None or READERS[verifier](answer, ("true", "false")) == answer
        gold = GOLD_READERS[verifier](text, ("true", "false"))
        assert gold is None or READERS[verifier](gold, ("true", "false")) == gold
