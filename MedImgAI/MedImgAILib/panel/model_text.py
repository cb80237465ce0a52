"""What the panel says of a model."""

import html

from slicer.i18n import tr as _


def described(entry, is_installed: bool, needs_license: bool) -> str:
    """Rich text: what a catalogue's entry tells."""
    rows = [
        (_("Finds"), _labels([name for name, _code in entry.labels])),
        (_("Inputs"), ", ".join(entry.inputs) + f" ({', '.join(entry.modality)}, {entry.body_part})"),
        (_("Spacing"), " × ".join(f"{s:g}" for s in entry.spacing_mm) + " mm" if entry.spacing_mm else ""),
        (_("Format"), entry.format),
        (_("Download"), size_text(entry)),
        (_("Memory"), f"{entry.memory_mb / 1000:.1f} GB" if entry.memory_mb else ""),
        (_("Time"), f"{entry.seconds:.2g} s, {entry.measured_on}" if entry.seconds else ""),
        (_("Licence"), entry.license),
        (_("Cite"), entry.citation),
        (_("Note"), entry.note),
    ]
    if entry.files and not entry.has_hashes:
        rows.append((_("Caution"), _("The publisher gives no hash for every file: the first download is trusted.")))
    text = f"<b>{html.escape(entry.title)}</b>"
    if entry.homepage:
        text += f' – <a href="{html.escape(entry.homepage, quote=True)}">{_("homepage")}</a>'
    lines = [f"<b>{name}:</b> {html.escape(value)}" for name, value in rows if value]
    if is_installed:
        lines.insert(0, _("On this machine."))
    elif needs_license:
        lines.append(_("Read and accept the licence before the first use."))
    return "<br>".join([text, *lines])


def described_own(card) -> str:
    """Rich text: what the card of the user's own model tells."""
    names = [s.name for output in card.outputs for s in output.segments]
    rows = [
        (_("Finds"), _labels(names)),
        (_("Inputs"), ", ".join(f"{i.name} ({i.modality})" for i in card.inputs)),
        (_("Intended use"), card.intended_use),
        (_("Limits"), card.limits),
        (_("Licence"), card.license),
        (_("Cite"), card.citation),
    ]
    lines = [f"<b>{name}:</b> {html.escape(value)}" for name, value in rows if value]
    return "<br>".join(
        [f"<b>{html.escape(card.title)}</b> ({html.escape(card.id)} {html.escape(card.version)})", *lines]
    )


def size_text(entry) -> str:
    """The size of the download."""
    if not entry.files:
        return _("with the Python package {name}").format(name=entry.requirement)
    if all(f.bytes for f in entry.files):
        return f"{entry.bytes / 2**20:.1f} MB"
    return _("size not told by the publisher")


def _labels(names, most: int = 12) -> str:
    if len(names) <= most + 1:
        return ", ".join(names)
    return ", ".join(names[:most]) + _(" and {count} more").format(count=len(names) - most)
