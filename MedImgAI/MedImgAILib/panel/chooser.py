"""Choice of the task: a list by group with a search box, and what the chosen task does."""

import html

import qt

_ROWS = (4, 10)
"""Least and largest number of rows that the list shows at once."""


class TaskChooser:
    """Fills and watches the widgets of the "Task" section.

    Parameters
    ----------
    search_box : QLineEdit
    task_list : QListWidget
    description : QLabel
    tasks : sequence of Task
        Sorted by group.
    on_choose : callable
        ``on_choose(task)`` when the user picks another task.
    """

    def __init__(self, search_box, task_list, description, tasks, on_choose):
        self._list = task_list
        self._description = description
        self._on_choose = on_choose
        self._is_updating = False
        self._tasks = {}
        self._groups = {}
        self._fill(tasks)
        search_box.connect("textChanged(QString)", self.search)
        search_box.connect("returnPressed()", self._take_first)
        task_list.connect("currentRowChanged(int)", self._row_changed)

    def _fill(self, tasks):
        for task in tasks:
            if task.group not in self._groups:
                self._add_heading(task.group)
            row = self._list.count
            self._list.addItem("    " + task.title)
            self._list.item(row).setToolTip(task.summary)
            self._tasks[row] = task
            self._groups[task.group][1].append(row)
        if self._list.count:
            rows = min(max(self._list.count, _ROWS[0]), _ROWS[1])
            self._list.setFixedHeight(rows * self._list.sizeHintForRow(0) + 2 * self._list.frameWidth + 2)

    def _add_heading(self, group: str):
        row = self._list.count
        self._list.addItem(group)
        item = self._list.item(row)
        font = item.font()
        font.setBold(True)
        item.setFont(font)
        item.setFlags(qt.Qt.ItemIsEnabled)
        self._groups[group] = (row, [])

    def search(self, text: str):
        """Show the tasks whose title, summary, keywords, group or id contain every word."""
        words = text.lower().split()
        for heading, rows in self._groups.values():
            for row in rows:
                self._list.item(row).setHidden(not all(word in _searchable(self._tasks[row]) for word in words))
            self._list.item(heading).setHidden(all(self._list.item(row).isHidden() for row in rows))

    def visible_tasks(self) -> list:
        """The tasks that the search left."""
        return [task for row, task in self._tasks.items() if not self._list.item(row).isHidden()]

    def show(self, task):
        """Display ``task`` as the chosen one, None for none."""
        self._is_updating = True
        try:
            rows = {t.id: row for row, t in self._tasks.items()}
            row = rows.get(task.id, -1) if task else -1
            if self._list.currentRow != row:
                self._list.setCurrentRow(row)
                if row >= 0:
                    self._list.scrollToItem(self._list.item(row))
        finally:
            self._is_updating = False
        self._description.text = describe(task)

    def _take_first(self):
        """Choose the first task that the search left."""
        for task in self.visible_tasks()[:1]:
            self._on_choose(task)

    def _row_changed(self, row: int):
        if not self._is_updating and row in self._tasks:
            self._on_choose(self._tasks[row])


def _searchable(task) -> str:
    return " ".join((task.title, task.summary, task.group, task.id, *task.keywords)).lower()


def describe(task) -> str:
    """Rich text: the summary, and where the method is published."""
    if task is None:
        return ""
    text = html.escape(task.summary)
    if task.references:
        text += "<br><small>" + "<br>".join(_reference(r) for r in task.references) + "</small>"
    return text


def _reference(reference: str) -> str:
    """A reference with its address or DOI as a link."""
    words = []
    for word in reference.split():
        bare = word.rstrip(".,;)")
        address = bare if bare.startswith(("http://", "https://")) else ""
        if bare.lower().startswith("doi:"):
            address = "https://doi.org/" + bare[4:]
        elif bare.startswith("10.") and "/" in bare:
            address = "https://doi.org/" + bare
        shown = html.escape(word)
        words.append(f'<a href="{html.escape(address, quote=True)}">{shown}</a>' if address else shown)
    return " ".join(words)
