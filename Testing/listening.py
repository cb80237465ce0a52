"""A context that keeps what a task says."""

from __future__ import annotations

from MedImgAILib.core import Context


class Listening(Context):
    """Keeps the messages of the log, warnings among them."""

    def __init__(self):
        super().__init__("cpu")
        self.messages = []

    def on_log(self, level, message):
        """Keep it."""
        self.messages.append(message)

    def heard(self, words: str) -> bool:
        """Whether any message had these words."""
        return any(words in message for message in self.messages)
