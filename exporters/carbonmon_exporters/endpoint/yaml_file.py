"""Reads typed values from a YAML file, with errors that name the line: PyYAML's nodes, not its objects.

YAML's tags, types and aliases have no effect here: every value is read as a text. No error shows a line of
the file, which may hold secrets.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from carbonmon.core.errors import ConfigError

if TYPE_CHECKING:
    from yaml.nodes import Node

Value = TypeVar("Value")

LONGEST_BYTES = 1 << 20
_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def import_extra(module: str, package: str) -> Any:
    """Import a module of the extra `auth`; raises ConfigError with the remedy if it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigError(f"--web-config needs {package}: pip install 'carbonmon[auth]'") from None


class YamlFile:
    """One file and its YAML nodes: reads typed values, and makes errors that name the line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._yaml = import_extra("yaml", "PyYAML")

    def root(self) -> Node:
        """The document. Nodes have their lines; tags and aliases of YAML have no effect."""
        yaml = self._yaml
        try:
            with self.path.open("rb") as file:
                data = file.read(LONGEST_BYTES + 1)
            if len(data) > LONGEST_BYTES:
                raise ConfigError(f"{self.path}: longer than {LONGEST_BYTES} bytes: not a file of options")
            root = yaml.compose(data.decode(), Loader=yaml.BaseLoader)
        except OSError as error:
            raise ConfigError(
                f"--web-config: {self.path} cannot be read: {error.strerror or error}"
            ) from None
        except UnicodeDecodeError:
            raise ConfigError(f"{self.path}: not UTF-8") from None
        except yaml.YAMLError as error:
            # Its whole text would show lines of the file.
            mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
            line = "" if mark is None else f", line {mark.line + 1}"
            raise ConfigError(f"{self.path}{line}: not valid YAML: {problem or 'bad characters'}") from None
        except RecursionError:
            raise ConfigError(f"{self.path}: not valid YAML: nested too deeply") from None
        if root is None:
            raise ConfigError(f"{self.path} is empty")
        return root  # type: ignore[no-any-return]

    def error(self, node: Node, text: str) -> ConfigError:
        return ConfigError(f"{self.path}, line {node.start_mark.line + 1}: {text}")

    def mapping(self, node: Node, where: str, keys: tuple[str, ...] = ()) -> Section:
        """The entries of a mapping, each key once, and with `keys` none but these."""
        what = where or "the file"
        if not isinstance(node, self._yaml.MappingNode):
            raise self.error(node, f"{what} must have keys and values")
        found: dict[str, Node] = {}
        for key_node, value_node in node.value:
            key = self.text(key_node, f"a key of {what}")
            if key in found:
                raise self.error(key_node, f"{key!r:.60} is given twice")
            if keys and key not in keys:
                near = difflib.get_close_matches(key, keys, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(keys)}"
                raise self.error(key_node, f"unknown key {key!r:.60} in {what}; {hint}")
            found[key] = value_node
        return Section(self, node, found)

    def text(self, node: Node, where: str) -> str:
        if not isinstance(node, self._yaml.ScalarNode):
            raise self.error(node, f"{where} must be a text")
        # A plain null means "not set" in this format, as an empty text does.
        is_null = node.style is None and node.value in ("null", "Null", "NULL", "~")
        value: str = "" if is_null else node.value
        if not value.isprintable():
            raise self.error(node, f"{where} holds characters that cannot be printed")
        return value

    def texts(self, node: Node, where: str) -> tuple[str, ...]:
        if not isinstance(node, self._yaml.SequenceNode):
            raise self.error(node, f"{where} must be a list")
        return tuple(self.text(item, f"an entry of {where}") for item in node.value)


class Section:
    """The entries of one mapping; an empty entry counts as missing."""

    def __init__(self, reader: YamlFile, node: Node, entries: dict[str, Node]) -> None:
        self._reader = reader
        self._node = node
        self._entries = entries

    def __iter__(self) -> Iterator[tuple[str, Node]]:
        return iter(self._entries.items())

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def read(self, key: str, convert: Callable[[Node], Value]) -> Value | None:
        node = self._entries.get(key)
        return None if node is None else convert(node)

    def text(self, key: str) -> str:
        return self.read(key, lambda node: self._reader.text(node, key)) or ""

    def texts(self, key: str) -> tuple[str, ...]:
        return self.read(key, lambda node: self._reader.texts(node, key)) or ()

    def boolean(self, key: str, default: bool) -> bool:
        word = self.text(key).lower()
        if word and word not in _WORDS:
            raise self.error(key, "must be true or false")
        return _WORDS.get(word, default)

    def choice(self, key: str, choices: tuple[str, ...], default: str) -> str:
        word = self.text(key) or default
        if word not in choices:
            raise self.error(key, f"{word!r:.60} is not supported: give {' or '.join(choices)}")
        return word

    def error(self, key: str, text: str) -> ConfigError:
        """An error at a key, or at the whole section where the key is missing."""
        return self._reader.error(self._entries.get(key, self._node), f"{key}: {text}")

    def path(self, key: str) -> Path | None:
        text = self.text(key)
        return self._reader.path.parent / text if text else None
