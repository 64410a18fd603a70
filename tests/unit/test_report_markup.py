from neuromas.report.markup import Markup, element, join


def test_text_is_escaped_and_markup_is_not() -> None:
    assert element("p", "<b> & ", Markup("<i>x</i>")) == "<p>&lt;b&gt; &amp; <i>x</i></p>"


def test_attributes_are_escaped_and_named_as_in_html() -> None:
    assert element("a", "x", class_="k", data_of='"<', hidden=True, title=None) == (
        '<a class="k" data-of="&quot;&lt;" hidden>x</a>'
    )


def test_numbers_are_written_short() -> None:
    assert element("circle", cx=1.0, cy=2.345) == '<circle cx="1" cy="2.35"></circle>'


def test_void_elements_have_no_end() -> None:
    assert element("meta", charset="utf-8") == '<meta charset="utf-8">'


def test_join_takes_nested_children() -> None:
    assert join(["a", None, ["<", Markup("<br>")]]) == "a&lt;<br>"
