"""Table, plot chart and text nodes."""

from __future__ import annotations

import numpy as np
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from ...core.data import Plot, Series, Table, Text
from ...core.errors import InputError
from .arrays import storable
from .prepared import Prepared
from .records import read_provenance

_KINDS = {"line": "PlotTypeScatter", "scatter": "PlotTypeScatter", "bar": "PlotTypeBar"}


def read_table(node) -> Table:
    """The columns; a column of several components becomes as many columns."""
    columns, units = {}, {}
    table = node.GetTable()
    for n in range(table.GetNumberOfColumns() if table is not None else 0):
        array = table.GetColumn(n)
        name = array.GetName() or f"Column {n + 1}"
        unit = node.GetColumnUnitLabel(name)
        for key, values in _values(array, name).items():
            columns[key] = values
            if unit:
                units[key] = unit
    return Table(columns, node.GetName() or "", units, read_provenance(node))


def _values(array, name: str) -> dict:
    if not array.IsA("vtkDataArray") or array.IsA("vtkBitArray"):
        return {name: tuple(array.GetVariantValue(row).ToString() for row in range(array.GetNumberOfValues()))}
    values = vtk_to_numpy(array) if array.GetNumberOfValues() else np.zeros(0)
    if values.ndim == 1:
        parts = {name: values}
    else:
        names = [array.GetComponentName(c) or str(c) for c in range(values.shape[1])]
        parts = {f"{name}_{part}": values[:, c] for c, part in enumerate(names)}
    for part in parts.values():
        part.flags.writeable = False
    return parts


def prepare_table(value: Table) -> Prepared:
    """Ready for a table node.

    Raises
    ------
    OutputError
        If a column holds complex numbers.
    """
    table = vtk.vtkTable()
    for name, values in value.columns.items():
        table.AddColumn(_column(name, values, value.label))

    def install(node):
        was = node.StartModify()
        node.SetUseColumnTitleAsColumnHeader(True)
        node.RemoveAllColumns()
        node.SetAndObserveSchema(None)
        node.SetAndObserveTable(table)
        for name in value.columns:
            if value.units.get(name):
                node.SetColumnUnitLabel(name, value.units[name])
        node.EndModify(was)

    return Prepared("vtkMRMLTableNode", ("vtkMRMLTableNode",), install)


def _column(name: str, values, who: str):
    if isinstance(values, tuple):
        array = vtk.vtkStringArray()
        array.SetNumberOfValues(len(values))
        for row, text in enumerate(values):
            array.SetValue(row, text)
    else:
        if values.dtype.kind in "iub" and values.dtype.itemsize < 4:
            values = values.astype(np.int32)
        array = numpy_to_vtk(storable(values, who), deep=True)
    array.SetName(name)
    return array


def read_plot(node) -> Plot:
    """The chart's series and the columns they show, as one table.

    Raises
    ------
    InputError
        If the chart is empty or its tables have different lengths.
    """
    who = f"Plot '{node.GetName()}'"
    columns, units, series = {}, {}, []
    for n in range(node.GetNumberOfPlotSeriesNodes()):
        item = node.GetNthPlotSeriesNode(n)
        if item is None or item.GetTableNode() is None:
            continue
        table = read_table(item.GetTableNode())
        x = item.GetXColumnName() or "" if item.IsXColumnRequired() else ""
        y = item.GetYColumnName() or ""
        if any(c not in table.columns for c in filter(None, (x, y))):
            raise InputError(f"{who} shows a column that its table lacks; choose its columns in the Plots module.")
        columns |= table.columns
        units |= table.units
        series.append(Series(y, x, item.GetName() or "", _kind(item)))
    if not series:
        raise InputError(f"{who} shows no series; add one in the Plots module.")
    titles = [text or "" for text in (node.GetTitle(), node.GetXAxisTitle(), node.GetYAxisTitle())]
    return Plot(
        Table(columns, node.GetName() or "", units), series, node.GetName() or "", *titles, read_provenance(node)
    )


def _kind(item) -> str:
    if item.GetPlotType() == item.PlotTypeBar or item.GetPlotType() == item.PlotTypeScatterBar:
        return "bar"
    return "scatter" if item.GetLineStyle() == item.LineStyleNone else "line"


def prepare_plot(value: Plot) -> Prepared:
    """Ready for a chart node; its table and series become nodes of their own, reused when overwriting."""
    table = prepare_table(value.table)

    def install(node):
        scene, name = node.GetScene(), node.GetName()
        was = node.StartModify()
        old = [node.GetNthPlotSeriesNode(n) for n in range(node.GetNumberOfPlotSeriesNodes())]
        old = [item for item in old if item is not None]
        table_node = next((item.GetTableNode() for item in old if item.GetTableNode() is not None), None)
        table_node = table_node or scene.AddNewNodeByClass("vtkMRMLTableNode", f"{name} table")
        table.install(table_node)
        node.RemoveAllPlotSeriesNodeIDs()
        for number, series in enumerate(value.series):
            item = old[number] if number < len(old) else scene.AddNewNodeByClass("vtkMRMLPlotSeriesNode")
            _install_series(item, series, table_node, new=number >= len(old))
            node.AddAndObservePlotSeriesNodeID(item.GetID())
        node.SetTitle(value.title)
        node.SetXAxisTitle(value.x_title)
        node.SetYAxisTitle(value.y_title)
        node.EndModify(was)

    return Prepared("vtkMRMLPlotChartNode", ("vtkMRMLPlotChartNode",), install)


def _install_series(item, series: Series, table_node, new: bool):
    item.SetName(series.name or series.y)
    item.SetAndObserveTableNodeID(table_node.GetID())
    item.SetXColumnName(series.x)
    item.SetYColumnName(series.y)
    plot_type = _KINDS[series.kind] if series.x else {"bar": "PlotTypeBar"}.get(series.kind, "PlotTypeLine")
    item.SetPlotType(getattr(item, plot_type))
    lined = series.kind != "scatter"
    item.SetLineStyle(item.LineStyleSolid if lined else item.LineStyleNone)
    item.SetMarkerStyle(item.MarkerStyleNone if lined else item.MarkerStyleCircle)
    if new:
        item.SetUniqueColor()


def read_text(node) -> Text:
    """The text."""
    return Text(node.GetText() or "", node.GetName() or "", read_provenance(node))


def prepare_text(value: Text) -> Prepared:
    """Ready for a text node."""
    return Prepared("vtkMRMLTextNode", ("vtkMRMLTextNode",), lambda node: node.SetText(value.text))
