"""What a search of training settings found: table, plot, and a text with the command of the best settings."""

from __future__ import annotations

import shlex

import numpy as np

from ..core import Plot, Series, Table, Task, Text
from .search_run import Found, Search


def command_of(task: Task, values: dict, seed: int) -> str:
    """The command line that trains with some parameters; defaults are left out.

    Parameters
    ----------
    task : Task
    values : dict
        Of its parameters.
    seed : int
    """
    defaults = task.defaults()
    words = ["medimgai", task.id]
    for name, value in values.items():
        if value != defaults[name]:
            words += [f"--{name.replace('_', '-')}", str(value)]
    words += ["--seed", str(seed)] if seed else []
    return shlex.join([*words, "--metrics", "figures.csv", "--report", "card.md"])


def outputs_of_search(search: Search, found: Found, task: Task, seed: int) -> dict:
    """The results for the ports of the task.

    Parameters
    ----------
    search : Search
    found : Found
    task : Task
        That trains with the settings.
    seed : int
    """
    table = _table(search, found)
    return {
        "results": table,
        "scores": _plot(search, found),
        "report": Text(_text(search, found, task, seed), "Search"),
    }


def _table(search: Search, found: Found) -> Table:
    results = found.results
    columns = {"round": np.array([r.round for r in results], float)}
    columns["trial"] = np.array([r.trial for r in results], float)
    columns["score"] = _scores(results)
    for name in search.settings[0]:
        values = [search.settings[r.trial - 1][name] for r in results]
        columns[name] = tuple(values) if isinstance(values[0], str) else np.array(values, float)
    if search.length == "epochs":
        columns["epochs"] = np.array([r.amount for r in results], float)
    columns["steps"] = np.array([r.steps for r in results], float)
    columns["minutes"] = np.array([round(r.seconds / 60, 2) for r in results])
    columns["note"] = tuple("best" if r == found.best else r.failed for r in results)
    return Table(columns, f"Search by {search.figures[0]}", {"minutes": "min"})


def _scores(results) -> np.ndarray:
    return np.array([np.nan if r.score is None else r.score for r in results])


def _plot(search: Search, found: Found) -> Plot:
    scores = _scores(found.results)
    rounds = np.array([r.round for r in found.results], float)
    best = np.array([max(scores[(rounds == r) & np.isfinite(scores)], default=np.nan) for r in rounds])
    table = Table({"round": rounds, "trials": scores, "best of the round": best}, "Scores")
    series = (
        Series("trials", "round", "trials", "scatter"), Series("best of the round", "round", "best of the round"),
    )  # fmt: skip
    return Plot(table, series, "Scores", "Scores by round", "round", search.figures[0])


def _text(search: Search, found: Found, task: Task, seed: int) -> str:
    best, figure = found.best, search.figures[0]
    settings = search.settings[best.trial - 1]
    lost = sum(r.score is None for r in found.results)
    lines = ["# Search of training settings", ""]
    counts = ", ".join(f"{each.trials} × {each.amount:g}" for each in search.rounds)
    lines.append(
        f"Trials × {search.length} by round: {counts}. Trained {len(found.results)} times"
        + (f", {lost} without a result." if lost else ".")
    )
    if not found.complete:
        lines.append("The search was ended early; the same command goes on with it.")
    lines += [
        "",
        f"Best: trial {best.trial} in round {best.round}, {figure} {best.score:.4f} on the held-out patients.",
    ]
    lines.append(_against_defaults(found, figure))
    lines += ["", *(f"- {name}: {value}" for name, value in settings.items())]
    lines += [f"- {search.length}: {best.amount:g}", "", f"Its model lies in {found.package.folder}."]
    beside = f"{search.path if search.path.name else search.path.resolve()}_best"
    values = search.fixed | settings | {search.length: best.amount, "folder": beside}
    lines += ["", "To train it again:", "", f"    {command_of(task, values, seed)}", ""]
    if len(search.settings) > 1:
        lines.append(
            f"The {figure} of the best is a little too good, because it was chosen on these patients. Judge its "
            "settings on others: by cross-validation (`--folds 5`) on patients that the search has not seen, or on the "
            "test part of the data, by which nothing was chosen."
        )
    lines += ["", "For research, not for diagnosis."]
    return "\n".join(lines)


def _against_defaults(found: Found, figure: str) -> str:
    """The best beside the defaults (trial 1) in the last round that the defaults took part in."""
    own = [r for r in found.results if r.trial == 1][-1]
    if own.score is None:
        return "With the defaults the training failed."
    if found.best.trial == 1:
        return "These are the defaults."
    same = [r for r in found.results if r.trial == found.best.trial and r.round == own.round]
    there = f", the best {same[0].score:.4f}" if same else ""
    return f"The defaults (trial 1) reached {figure} {own.score:.4f} in round {own.round}{there}."
