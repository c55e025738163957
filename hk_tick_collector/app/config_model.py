"""What a class of settings is made of, and how it is filled from the environment and a ``.env`` file.

The recorder's settings (``app/config.py``) and those of the programs that serve what it recorded
(``serve/settings.py``) are two such classes over one file. A class is a frozen model whose fields are made by
``setting``; the text under a field is its documentation. ``read_model`` finds everything that is wrong at once.
"""

from __future__ import annotations

import ast
import inspect
import os
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import ErrorDetails, PydanticCustomError
from pydantic_core.core_schema import ValidationInfo

from hk_tick_collector.app.config_sources import DEFAULT_SOURCE, RECORDERS, Claims, Given, Problem, given_settings

HOST_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"
_SHOWN_VALUE_CHARS = 60
# Pydantic would look through the metadata of every installed package for plug-ins of its own, and run them in here.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
_TEXT_ERROR = "setting"


class SettingInfo(NamedTuple):
    """What error messages and the generated documents say about one setting."""

    key: str
    attribute: str
    group: str
    default: str | None  # as written in a .env file; None when there is none and a value is required
    allowed: str
    hidden: bool  # its value is never printed
    model: type[SettingsModel]

    @property
    def about(self) -> str:
        """The text under the field, for documents and help; reading it costs a parse of the source file."""
        return _texts(self.model)[self.attribute]


class Loading(NamedTuple):
    """What ``read_model`` and the validators of one loading tell each other, by attribute."""

    base_dirs: dict[str, Path]  # where a relative path in the value starts
    right: dict[str, Any]  # values that are right by themselves, also when others are wrong


class SettingsModel(BaseModel):
    """The base of a class of settings."""

    # The texts under the fields are read by ``_texts``: pydantic would parse the source at every start.
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, validate_default=True)

    @field_validator("*", mode="after")
    @classmethod
    def _keep(cls, value: object, info: ValidationInfo) -> object:
        """So that values are compared with each other even if a third is wrong."""
        if info.context is not None:
            info.context.right[info.field_name] = value
        return value


_ModelT = TypeVar("_ModelT", bound=SettingsModel)


@dataclass(frozen=True)
class Read(Generic[_ModelT]):
    """What was read; ``settings`` is None when something is wrong."""

    settings: _ModelT | None
    problems: list[Problem]
    right: Mapping[str, Any]  # values that are right by themselves, by attribute
    sources: Mapping[str, str]  # by key: a file's path, ``the environment``, ``default``


def text_error(text: str) -> PydanticCustomError:
    """What a validator raises: a sentence for the operator."""
    return PydanticCustomError(_TEXT_ERROR, "{text}", {"text": text})


def setting(group: str, key: str, default: Any, allowed: str = "", **field: Any) -> Any:
    """A field; ``allowed`` is the unit of a number, or says in words what the type and the bounds do not."""
    extra: dict[str, Any] = {"group": group, "allowed": allowed}
    return Field(default, validation_alias=key, json_schema_extra=extra, **field)


def base_dir(info: ValidationInfo) -> Path:
    """Where a relative path in the value starts."""
    context: Loading | None = info.context
    return context.base_dirs.get(str(info.field_name), Path.cwd()) if context else Path.cwd()


def path_value(value: object, info: ValidationInfo) -> object:
    """A relative path starts at the .env file's directory if it is written there, else at the working directory."""
    if not isinstance(value, str):
        return value
    try:
        return base_dir(info) / Path(value).expanduser()
    except RuntimeError as error:
        raise text_error(f"'{value}' begins with ~ but the home directory is unknown; write the full path") from error


def directory(path: Path | None) -> Path | None:
    """Refuse what is there and no directory."""
    if path is None:
        return None
    try:
        is_no_directory = path.exists() and not path.is_dir()
    except OSError as error:
        raise text_error(f"{path} cannot be reached ({error.strerror}); check path and permissions") from error
    if is_no_directory:
        raise text_error(f"{path} is not a directory; name one")
    return path


OptionalPath = Annotated[Path | None, BeforeValidator(path_value)]
Directory = Annotated[Path, BeforeValidator(path_value), AfterValidator(directory)]
OptionalDirectory = Annotated[Path | None, BeforeValidator(path_value), AfterValidator(directory)]


def upper(value: object) -> object:
    """A text in capitals."""
    return value.upper() if isinstance(value, str) else value


def lower(value: object) -> object:
    """A text in small letters."""
    return value.lower() if isinstance(value, str) else value


def info_of(model: type[SettingsModel], attribute: str) -> SettingInfo:
    """What is said of one setting."""
    field = model.model_fields[attribute]
    extra = field.json_schema_extra
    assert isinstance(extra, dict)
    return SettingInfo(
        key=str(field.validation_alias),
        attribute=attribute,
        group=str(extra["group"]),
        default=None if field.is_required() else as_written(field.default),
        allowed=_allowed(field.annotation, field.metadata, str(extra["allowed"])),
        hidden=not field.repr,
        model=model,
    )


@cache
def _texts(model: type[SettingsModel]) -> dict[str, str]:
    """The texts under the fields of a class and of those it stands on, on one line each."""
    texts: dict[str, str] = {}
    for part in reversed(model.__mro__):
        if part is SettingsModel or not issubclass(part, SettingsModel):
            continue
        (made,) = ast.parse(textwrap.dedent(inspect.getsource(part))).body
        assert isinstance(made, ast.ClassDef)
        for field, text in pairwise(made.body):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                    texts[name] = " ".join(words.split())
    return texts


def table_of(model: type[SettingsModel]) -> list[SettingInfo]:
    """All settings of a class, in the order of the documents."""
    return [info_of(model, attribute) for attribute in model.model_fields]


def _allowed(annotation: object, metadata: list[Any], unit_or_text: str) -> str:
    """The limits as words: from the type and the bounds. ``unit_or_text``: the unit of a number, or the whole text."""
    if annotation is bool:
        return "1, true or yes; 0, false or no"
    choices = getattr(annotation, "__args__", ())
    if choices and all(isinstance(choice, str) for choice in choices):
        return ", ".join(choices[:-1]) + f" or {choices[-1]}"
    if annotation in (int, float):
        low, high = (next(getattr(bound, name) for bound in metadata if hasattr(bound, name)) for name in ("ge", "le"))
        kind = "a whole number" if annotation is int else "a number"
        return f"{kind} from {low} to {high}" + (f" ({unit_or_text})" if unit_or_text else "")
    return unit_or_text


def as_written(value: object) -> str:
    """A value as it stands in a .env file."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def read_model(
    model: type[_ModelT], env_file: Path | None, environ: Mapping[str, str], claims: Claims = RECORDERS
) -> Read[_ModelT]:
    """An instance from ``environ`` over ``env_file`` over defaults, and everything that is wrong.

    ``env_file`` None means ``.env`` in the working directory if there is one. ConfigErrors when the file cannot be
    read.
    """
    infos = {info.key: info for info in table_of(model)}
    given, problems = given_settings(env_file, environ, list(infos), claims)
    loading = Loading({infos[key].attribute: setting.base_dir for key, setting in given.items()}, {})
    settings: _ModelT | None = None
    try:
        settings = model.model_validate({key: setting.text.strip() for key, setting in given.items()}, context=loading)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            problems += _value_problems(detail, infos, given)
    sources = {key: given[key].source if key in given else DEFAULT_SOURCE for key in infos}
    return Read(settings, problems, loading.right, sources)


def _value_problems(
    detail: ErrorDetails, infos: Mapping[str, SettingInfo], given: Mapping[str, Given]
) -> Iterator[Problem]:
    """Pydantic's finding about one key in the operator's words."""
    info = infos[str(detail["loc"][0])]
    setting = given.get(info.key)
    if setting is None:
        yield Problem(info.key, f"{info.key} is not set: give {info.allowed}")
    elif detail["type"] == _TEXT_ERROR:
        for text in str(detail["ctx"]["text"]).split("\n"):
            yield Problem(info.key, f"{info.key} (from {setting.source}): {text}")
    else:
        value = setting.text if len(setting.text) <= _SHOWN_VALUE_CHARS else setting.text[:_SHOWN_VALUE_CHARS] + "..."
        shown = "(hidden)" if info.hidden else repr(value)
        text = f"{info.key}={shown} (from {setting.source}) is wrong: allowed is {info.allowed}"
        yield Problem(info.key, f"{text}; correct it, or remove it for the default {info.default}")
