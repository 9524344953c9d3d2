import pytest

from safety_geometry.judges.thinking import answer_of


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Bread needs flour.", "Bread needs flour."),
        ("  spaces stay where nobody thought \n", "  spaces stay where nobody thought \n"),
        ("<think>\nShould I refuse? No.\n</think>\n\nBread needs flour.", "Bread needs flour."),
        ("<think>\n\n</think>\n\nSorry, no.", "Sorry, no."),
        ("The prompt opened this thought.\n</think>\nBread.", "Bread."),
        ("<think>One.</think>Draft.<think>Two.</think>Bread.", "Bread."),
        ("<think>\nI cannot decide yet, and the limit", ""),
        ("\n <THINK>\nnever finished", ""),
        ("<think>done</think>\nBread.\n<think>\nand another", "Bread."),
        ("[THINK]Magistral's marks[/THINK]Bread.", "Bread."),
        ("<thinking>other</thinking>\nBread.", "Bread."),
        ("The <think> tag is no HTML.", "The <think> tag is no HTML."),
        ("<think>weighs</think>", ""),
        ("", ""),
    ],
)
def test_the_answer_is_what_follows_the_thought(text, answer):
    assert answer_of(text) == answer
