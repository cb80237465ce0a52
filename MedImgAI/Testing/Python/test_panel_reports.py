"""Reports in the panel: an HTML page is shown as one, and opens in the browser."""

from pathlib import Path

import pytest
from panel_testing import PanelDriver, extra_tasks  # noqa: F401
from slicer_standin.fixtures import slicer_app  # noqa: F401


@pytest.mark.parametrize(
    "text, page", [("<!DOCTYPE html><html>", True), ("\n<html lang='en'>", True), ("a < b", False), (None, False)]
)
def test_what_is_a_page(slicer_app, text, page):  # noqa: F811
    from MedImgAILib.panel.results import is_page

    assert is_page(text) is page


def test_a_page_is_shown_and_opened(slicer_app, extra_tasks, monkeypatch):  # noqa: F811
    import qt
    from MedImgAILib.core import Text
    from MedImgAILib.hosts import mrml

    driver = PanelDriver(slicer_app, "MedImgAI")
    page = "<!DOCTYPE html><html><body><h1>Exam</h1><p>Nothing found.</p></body></html>"
    node = mrml.write_node(Text(page, "Screening report: 1"), slicer_app.scene)
    plain = mrml.write_node(Text("5 < 6", "Notes"), slicer_app.scene)
    driver.panel.results.show({"Report": node, "Notes": plain})
    widget, other = (row[1] for row in driver.panel.results._rows)
    assert "Nothing found." in widget.findChild(qt.QTextBrowser).toPlainText()
    assert other.findChild(qt.QTextBrowser) is None
    assert other.findChild(qt.QPlainTextEdit).toPlainText() == "5 < 6"
    opened = []
    monkeypatch.setattr(qt.QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile()))
    (button,) = [b for b in widget.findChildren(qt.QPushButton) if b.text == "Open in browser"]
    button.click()
    assert (
        Path(opened[0]).read_text(encoding="utf-8") == page
        and Path(opened[0]).name == "MedImgAI-Screening-report--1.html"
    )
