"""The item model behind qMRMLTableView."""

from __future__ import annotations

from PySide6.QtCore import QAbstractTableModel, QModelIndex, Qt


class TableNodeModel(QAbstractTableModel):
    """Shows a vtkMRMLTableNode's columns read-only."""

    def __init__(self, node, parent=None):
        super().__init__(parent)
        self._node = node
        self._table = node.GetTable()

    def rowCount(self, parent=None) -> int:
        return 0 if parent is not None and parent.isValid() else self._table.GetNumberOfRows()

    def columnCount(self, parent=None) -> int:
        return 0 if parent is not None and parent.isValid() else self._table.GetNumberOfColumns()

    def data(self, index: QModelIndex, role: int = Qt.DisplayRole):
        if role != Qt.DisplayRole or not index.isValid():
            return None
        return self._table.GetValue(index.row(), index.column()).ToString()

    def headerData(self, section: int, orientation, role: int = Qt.DisplayRole):
        if role != Qt.DisplayRole:
            return None
        if orientation == Qt.Horizontal:
            name = self._table.GetColumnName(section) or str(section)
            unit = self._node.GetColumnUnitLabel(name)
            return f"{name} [{unit}]" if unit else name
        return str(section + 1)
