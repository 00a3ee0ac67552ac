"""The model card shows names as text, whatever they hold."""

from __future__ import annotations

from vitlr.vit.exports.card import model_card


def test_a_name_in_a_model_card_is_no_markup_link_or_html() -> None:
    names = ["<img src=x onerror=alert(1)>", "[mug](javascript:alert(1))", "**bold**", "a|b", "glue-stick, 2"]
    card = model_card(
        names, backbone="b", cut=1, num_blocks=2, image_size=32, settings={}, data="a_b", figures={}
    )
    assert (
        r"\<img src=x onerror=alert(1)\>, \[mug\](javascript:alert(1)), \*\*bold\*\*, a\|b, glue-stick, 2"
        in card
    )
    assert r"**Data.** a\_b" in card
