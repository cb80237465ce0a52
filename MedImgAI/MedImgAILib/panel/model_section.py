"""The section "Models": catalogue with search and filters, download, import, and the models of this machine."""

import logging

import ctk
import qt
from slicer.i18n import tr as _

from ..core import Cancelled, InputError, MedImgAIError, Task
from ..hosts import slicer_packages
from ..hosts.model_store import ModelStore
from ..networks.catalogue import choices, find, read_catalogue
from .model_job import ModelJob
from .model_text import described, described_own
from .run_section import guarded

logger = logging.getLogger("MedImgAI")

_STYLES = {"info": "", "error": "color: #c0392b;"}
_CONVERTING = ("torch>=2.2", "safetensors>=0.4")
_FURTHER = {"monai_bundle": ("monai>=1.4",), "onnx": ("onnxruntime>=1.17",)}
_FILTERS = (
    ("modality", _("Any modality")), ("body_part", _("Any body part")), ("license", _("Any licence")),
    ("format", _("Any format")),
)  # fmt: skip


class ModelSection:
    """A collapsible section that fills itself when it is first opened.

    Parameters
    ----------
    on_use : callable
        ``on_use(task id, model id)``: the user wants to apply a model of this machine.
    """

    def __init__(self, on_use):
        self._on_use = on_use
        self._entries, self._own, self._rows = {}, {}, []
        self._is_updating = False
        self._clears = False
        self.store = None
        self.job = ModelJob(self._progressed, self._ended)
        self.button = ctk.ctkCollapsibleButton()
        self.button.text = _("Models")
        self.button.objectName = "modelsCollapsibleButton"
        self.button.collapsed = True
        self._build(qt.QVBoxLayout(self.button))
        self.button.connect("contentsCollapsed(bool)", self._opened)
        self._say("")

    # Widgets

    def _build(self, layout):
        self.search = qt.QLineEdit()
        self.search.placeholderText = _("Search models…")
        self.search.toolTip = _("Words that the title, labels, inputs, licence or id of a model contain.")
        self.search.connect("textChanged(QString)", lambda *_arguments: self.refresh())
        layout.addWidget(self.search)
        grid = qt.QGridLayout()
        layout.addLayout(grid)
        self.filters = {}
        for number, (name, every) in enumerate(_FILTERS):
            box = qt.QComboBox()
            box.sizeAdjustPolicy = qt.QComboBox.AdjustToMinimumContentsLengthWithIcon
            box.minimumContentsLength = 10
            box.addItem(every, "")
            box.connect("currentIndexChanged(int)", lambda *_arguments: self.refresh())
            grid.addWidget(box, number // 2, number % 2)
            self.filters[name] = box
        self.only_here = qt.QCheckBox(_("Only models on this machine"))
        self.only_here.connect("toggled(bool)", lambda *_arguments: self.refresh())
        layout.addWidget(self.only_here)
        self.list = qt.QListWidget()
        self.list.setMinimumHeight(150)
        self.list.connect("currentRowChanged(int)", lambda *_arguments: self._show())
        layout.addWidget(self.list)
        self.details = qt.QLabel()
        self.details.wordWrap = True
        self.details.openExternalLinks = True
        layout.addWidget(self.details)
        self.accept = qt.QCheckBox(_("I have read the licence and accept it"))
        self.accept.connect("toggled(bool)", self._accepted)
        layout.addWidget(self.accept)
        self.get = self._button(_("Download"), _("Fetch, check and convert this model."), self._get_clicked)
        self.use = self._button(_("Use"), _("Choose the task and this model in it."), self._use_clicked)
        self.remove = self._button(_("Remove"), _("Delete this model from this machine."), self._remove_clicked)
        self.clear = self._button(
            _("Clear all"), _("Delete all models and begun downloads from this machine."), self._clear_clicked
        )
        self._in_a_row(layout, self.get, self.use, self.remove, self.clear)
        self.path = ctk.ctkPathLineEdit()
        self.path.filters = ctk.ctkPathLineEdit.Files | ctk.ctkPathLineEdit.Dirs
        self.path.toolTip = _(
            "File or folder of this machine: a model package, MONAI bundle, nnU-Net v2 result (folder or ZIP), public "
            "weights, or an ONNX or TorchScript file with its card beside it."
        )
        self.take = self._button(_("Import"), self.path.toolTip, self._import_clicked)
        self._in_a_row(layout, self.path, self.take)
        network = ctk.ctkCollapsibleButton()
        network.text = _("Network")
        network.collapsed = True
        layout.addWidget(network)
        form = qt.QFormLayout(network)
        self.mirror, self.proxy = qt.QLineEdit(), qt.QLineEdit()
        self.mirror.placeholderText = self.proxy.placeholderText = "https://…"
        self.mirror.toolTip = _("Server that is asked first, with each file's path.")
        self.proxy.toolTip = _("Proxy for downloads; empty for that of the system's environment.")
        form.addRow(_("Mirror:"), self.mirror)
        form.addRow(_("Proxy:"), self.proxy)
        for editor in (self.mirror, self.proxy):
            editor.connect("editingFinished()", self._network_changed)
        self.bar = qt.QProgressBar()
        self.bar.maximum = 1000
        self.bar.visible = False
        layout.addWidget(self.bar)
        self.status = qt.QLabel()
        self.status.wordWrap = True
        layout.addWidget(self.status)

    def _button(self, text, tip, slot):
        button = qt.QPushButton(text)
        button.toolTip = tip
        button.connect("clicked()", slot)
        return button

    def _in_a_row(self, layout, *widgets):
        row = qt.QHBoxLayout()
        for widget in widgets:
            row.addWidget(widget)
        layout.addLayout(row)

    # Display

    def show_status(self, sentence: str, kind: str = "info"):
        """Show one sentence; see :func:`.run_section.guarded`."""
        self._say(sentence, kind)

    def _say(self, sentence: str, kind: str = "info"):
        self.status.setStyleSheet(_STYLES.get(kind, ""))
        self.status.text = sentence
        self.status.visible = bool(sentence)

    @guarded
    def _opened(self, is_collapsed):
        if is_collapsed or self.store is not None:
            return
        self.store = ModelStore()
        self._entries = {entry.id: entry for entry in read_catalogue()}
        self.mirror.text, self.proxy.text = self.store.mirror, self.store.proxy
        self._is_updating = True
        for name, values in choices(self._entries.values()).items():
            for value in values:
                self.filters[name].addItem(value if len(value) <= 40 else value[:38] + "…", value)
        self._is_updating = False
        self.refresh()

    @guarded
    def refresh(self):
        """List what search and filters leave."""
        if self.store is None or self._is_updating:
            return
        chosen = self.chosen_id
        packages = {p.card.id: p for p in self.store.installed()}
        self._own = {i: p for i, p in packages.items() if i not in self._entries}
        wanted = {name: box.itemData(box.currentIndex) or "" for name, box in self.filters.items()}
        entries = find(self._entries.values(), self.search.text, **wanted)
        rows = [(e.id, e.title, e.id in packages) for e in entries if e.id in packages or not self.only_here.checked]
        if not any(wanted.values()):
            words = self.search.text.lower().split()
            rows += [
                (i, p.card.title, True)
                for i, p in sorted(self._own.items())
                if all(w in f"{i} {p.card.title}".lower() for w in words)
            ]
        self._is_updating = True
        self.list.clear()
        for model_id, title, is_here in rows:
            mark = "✓ " if is_here else "    "
            self.list.addItem(f"{mark}{title}" + (_("  (own)") if model_id in self._own else ""))
        self._rows = [row[0] for row in rows]
        if chosen in self._rows:
            self.list.setCurrentRow(self._rows.index(chosen))
        self._is_updating = False
        self._show()

    @property
    def chosen_id(self) -> str:
        """The id of the chosen model, empty if none."""
        row = self.list.currentRow
        return self._rows[row] if 0 <= row < len(self._rows) else ""

    @guarded
    def _show(self):
        if self._is_updating or self.store is None:
            return
        self._clears = False
        self.clear.text = _("Clear all")
        entry, own = self._entries.get(self.chosen_id), self._own.get(self.chosen_id)
        is_here = bool(own) or (entry is not None and self.store.is_installed(entry.id))
        accepted = entry is None or self.store.is_license_accepted(entry)
        if entry is not None:
            self.details.text = described(entry, is_here, not accepted)
        else:
            self.details.text = described_own(own.card) if own else _("Choose a model.")
        is_task_of_its_own = entry is not None and entry.task != "segment.network"
        self._is_updating = True
        self.accept.visible = entry is not None and not is_here and not is_task_of_its_own
        self.accept.checked = accepted and entry is not None
        self._is_updating = False
        self._update_buttons(entry, is_here, accepted, is_task_of_its_own)

    def _update_buttons(self, entry, is_here, accepted, is_task_of_its_own):
        running = self.job.is_running
        can_get = entry is not None and not is_here and entry.is_ready
        self.get.text = _("Cancel") if running else _("Download")
        self.get.enabled = running or (can_get and accepted)
        self.use.enabled = not running and (is_here or is_task_of_its_own)
        self.remove.enabled = is_here and not running
        self.clear.enabled = self.take.enabled = not running

    # What the user does

    @guarded
    def _accepted(self, checked):
        if self._is_updating or not self.chosen_id:
            return
        if checked:
            self.store.accept_license(self._entries[self.chosen_id])
        self._show()

    @guarded
    def _get_clicked(self):
        if self.job.is_running:
            self.job.cancel()
            self._say(_("Cancelling…"))
            return
        entry = self._entries[self.chosen_id]
        needed = (*_CONVERTING, *_FURTHER.get(entry.loader, ()), *filter(None, [entry.requirement]))
        self._ensure(entry.title, needed)
        store = self.store
        self._start(lambda context: store.get(entry, context), _("Downloading {title}…").format(title=entry.title))

    @guarded
    def _import_clicked(self):
        path = self.path.currentPath
        if not path:
            raise InputError(_("Choose a file or folder to import."))
        self._ensure(_("Import of models"), _CONVERTING)
        store = self.store
        self._start(lambda context: store.import_model(path, context), _("Importing…"))

    def _ensure(self, title: str, requirements):
        needs = Task()
        needs.title, needs.requirements = title, tuple(requirements)
        slicer_packages.ensure(needs)

    def _start(self, work, sentence: str):
        self.bar.value = 0
        self.bar.visible = True
        self._say(sentence)
        self.job.start(work)
        self._show()

    def _progressed(self, fraction, message):
        self.bar.value = int(1000 * fraction)
        if message:
            self._say(message)

    @guarded
    def _ended(self, package, error):
        self.bar.visible = False
        self.refresh()
        if isinstance(error, Cancelled):
            self._say(_("Cancelled; what was downloaded is kept and the next try goes on there."))
        elif isinstance(error, MedImgAIError):
            self._say(str(error), "error")
        elif error is not None:
            self._say(_("Something unexpected went wrong; details are in the application log."), "error")
        else:
            if package.card.id in self._rows:
                self.list.setCurrentRow(self._rows.index(package.card.id))
            self._say(_("The model '{title}' is ready.").format(title=package.card.title))

    @guarded
    def _use_clicked(self):
        entry = self._entries.get(self.chosen_id)
        if entry is not None and entry.task != "segment.network":
            self._on_use(entry.task, "")
            return
        from ..core.model_package import ModelPackage

        package = ModelPackage.load(self.store.path(self.chosen_id))
        self._on_use("segment.torchscript" if package.runs_code else "segment.network", str(package.folder))

    @guarded
    def _remove_clicked(self):
        self.store.remove(self.chosen_id)
        self.refresh()
        self._say(_("The model was removed."))

    @guarded
    def _clear_clicked(self):
        """The second click does it."""
        if not self._clears:
            self._clears = True
            self.clear.text = _("Really clear?")
            self._say(
                _("All models and begun downloads will be deleted; click once more, or choose a model to keep them.")
            )
            return
        freed = self.store.clear()
        self.refresh()
        self._say(_("{size:.1f} MB were freed.").format(size=freed / 2**20))

    @guarded
    def _network_changed(self):
        self.store.set_network(self.mirror.text.strip(), self.proxy.text.strip())
        self._say("")

    def discard(self):
        """The panel is closed."""
        self.job.discard()
