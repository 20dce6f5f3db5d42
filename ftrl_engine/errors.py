"""One family of errors. Every message names the thing, the rule, the value and the cure.

``retriable`` says whether trying the same call again later can succeed; callers
decide by this attribute, never by the text.
"""

from __future__ import annotations


class FtrlError(Exception):
    """Base of every error this project raises on purpose."""

    retriable: bool = False


class ConfigError(FtrlError, ValueError):
    """A parameter, flag or schema breaks a rule."""


class DataError(FtrlError, ValueError):
    """Rows refused at the border: NaN, infinity, a slot outside the table, a wrong label."""


class CorruptFileError(FtrlError):
    """A container file is cut short or damaged."""


class ModelError(FtrlError):
    """A model directory cannot be used: locked, missing, or made with other settings."""


class SourceError(FtrlError):
    """Events cannot be read from a source."""


class SourceUnavailableError(SourceError):
    """The source does not answer now; trying again may help."""

    retriable = True


class LostDataError(SourceError):
    """Events between the saved position and the first one still held are gone."""
