"""What an app brings: one `App(...)` in its package, and one line in piccolo_conf.py.

An app is a package with `piccolo_app.py` (Piccolo's configuration: tables, migrations, commands)
and, where it brings more than tables, `app.py` with an `APP`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeAlias, TypeVar

from pydantic import BaseModel

from audit.database import Database
from audit.errors import GroundworkError
from audit.sentences import OWN, Words

Part = TypeVar("Part", bound=BaseModel)

# A function, or where to find it, as "package.module:function": imported when it is needed, so
# that the server starts without it.
Lazy: TypeAlias = str | Callable[[Any], Sequence[Any]]


class WrongApp(GroundworkError):
    """An app cannot be used; the message names it and says what is wrong."""


@dataclass(frozen=True)
class Services:
    """The settings and the database that the parts of an app are given.

    Args:
        db: the database of all tables.
        settings: of all apps, see `settings_of`.
    """

    db: Database
    settings: BaseModel

    def settings_of(self, kind: type[Part]) -> Part:
        """Return the settings of one app, which its `App(settings=...)` declared."""
        if not isinstance(self.settings, kind):
            raise WrongApp(f"{kind.__module__}.{kind.__name__} belongs to no app of APP_REGISTRY.")
        return self.settings

    @classmethod
    def of(cls, engine: Any) -> Self:
        """Make them from Piccolo's engine, for commands."""
        return cls(engine, engine.settings)


@dataclass(frozen=True)
class App:
    """An app and all that it brings. All parts but the first four are functions of the `Services`.

    Args:
        settings: a Pydantic model whose fields are read from the environment and `.env`.
        sentences: for constraints of its tables, by name: what people read when a change
            violates one.
        instead: for groups of Piccolo's commands that are of no use in this application: a
            sentence with the commands to use.
        words: what rows of the trail about its tables say, and where these lead to.
        tables: Piccolo tables, or piccolo-admin's TableConfig, for the back office.
        forms: piccolo-admin's FormConfig, for the back office.
        operations: home.web.openapi.Operation, for the API and its description.
        pages: home.web.pages.Page.
        groups: home.accounts.people.Group, for the page of people.
        panels: home.pages.panels.PanelSource, for the overview.
        jobs: audit.jobs.Job, which run beside the requests.
        notices: home.outbox.notices.Look, which find what people should hear of by mail or webhook.
        erasers: audit.known_person.Eraser, which know what is stored of a person, and erase it.
        lifespan: asynchronous context managers, entered before the first request and left after
            the last one.
    """

    settings: type[BaseModel] | None = None
    sentences: Mapping[str, str] = field(default_factory=dict)
    instead: Mapping[str, str] = field(default_factory=dict)
    words: Words = field(default_factory=Words)
    tables: Lazy | None = None
    forms: Lazy | None = None
    operations: Lazy | None = None
    pages: Lazy | None = None
    groups: Lazy | None = None
    panels: Lazy | None = None
    jobs: Lazy | None = None
    notices: Lazy | None = None
    erasers: Lazy | None = None
    lifespan: Lazy | None = None


class AppRegistry:
    """Piccolo's registry, which is loaded when somebody asks for it: it loads a code formatter.

    Args:
        apps: modules, each after the ones it stands on.
    """

    def __init__(self, apps: list[str]) -> None:
        self.apps = apps
        self.brought = {name.removesuffix(".piccolo_app"): _load(name) for name in apps}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        from piccolo.conf.apps import AppRegistry as PiccoloRegistry

        registry = self.__dict__.setdefault("_registry", None) or PiccoloRegistry(self.apps)
        self._registry = registry
        if name == "app_configs":
            from audit.typed_command import check_typed_command

            check_typed_command(registry.app_configs.values(), self.instead())
        return getattr(registry, name)

    def instead(self) -> dict[str, str]:
        """Return what all apps say about groups of Piccolo's commands."""
        return dict(each for app in self.brought.values() for each in app.instead.items())

    def settings(self) -> list[type[BaseModel]]:
        """Return the settings of all apps that have some."""
        return [app.settings for app in self.brought.values() if app.settings is not None]

    def sentences(self) -> dict[str, str]:
        """Return the sentences of all apps.

        Raises:
            WrongApp: two apps have one for the same constraint.
        """
        found: dict[str, str] = {}
        for name, app in self.brought.items():
            if twice := found.keys() & app.sentences.keys():
                raise WrongApp(f"App {name}: another app has a sentence for {min(twice)}, too.")
            found |= app.sentences
        return found

    def words(self) -> Words:
        """Return what all apps say about rows of the trail."""
        found = OWN
        for app in self.brought.values():
            found |= app.words
        return found

    def all(self, part: str, services: Services) -> list[tuple[str, Any]]:
        """Return what all apps bring of one part, such as `forms`, each with its app's name.

        Raises:
            WrongApp: it cannot be imported, or is no function of the services.
        """
        return [
            (name, each)
            for name, app in self.brought.items()
            if (reference := getattr(app, part)) is not None
            for each in _function(name, part, reference)(services)
        ]


def refuse_twice(brought: Sequence[tuple[str, str]]) -> None:
    """Refuse two things of one name: one would hide the other.

    Args:
        brought: each thing's app, and what it is, such as `form return`.

    Raises:
        WrongApp: the message names both apps.
    """
    taken: dict[str, str] = {}
    for app, name in brought:
        if name in taken:
            raise WrongApp(f"App {app}: {name} is there already, in app {taken[name]}.")
        taken[name] = app


def _load(name: str) -> App:
    """Import the `APP` of an app; one without brings its tables."""
    package = name.removesuffix(".piccolo_app")
    try:
        module = importlib.import_module(f"{package}.app")
    except ModuleNotFoundError as error:
        if error.name != f"{package}.app":
            raise
        return App(tables=lambda services: importlib.import_module(name).APP_CONFIG.table_classes)
    app = getattr(module, "APP", None)
    if not isinstance(app, App):
        raise WrongApp(f"App {package}: app.py has no APP = App(...).")
    return app


def _function(name: str, part: str, reference: Lazy) -> Callable[[Any], Sequence[Any]]:
    if not isinstance(reference, str):
        return reference
    module, colon, attribute = reference.partition(":")
    if not colon:
        raise WrongApp(f'App {name}: {part}="{reference}" is not "package.module:function".')
    try:
        found = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise WrongApp(f'App {name}: {part}="{reference}": there is no module {module}.') from None
    except AttributeError:
        raise WrongApp(f'App {name}: {part}="{reference}": {module} has no {attribute}.') from None
    if not callable(found):
        raise WrongApp(f'App {name}: {part}="{reference}" is not a function of the services.')
    return found  # type: ignore[no-any-return]
