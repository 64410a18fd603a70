import pytest

from neuromas.tasks.verify import READERS, read_choice, read_exact, read_number


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
        ("9" * 5000, None),
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


@pytest.mark.parametrize("verifier", ["exact", "number", "choice"])
@pytest.mark.parametrize("text", ["####", "\\boxed{", "-", "1/", "/2", "\x00", "🙂" * 100, "1," * 2000])
def test_readers_never_fail(verifier: str, text: str) -> None:
    READERS[verifier](text)
