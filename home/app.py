"""What accounts bring to the application. Their settings are home.config.settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from audit.apps import App
from home.accounts.in_the_trail import WORDS

if TYPE_CHECKING:
    from audit.jobs import Job
    from home.accounts.people import Group
    from home.services import Services
    from home.web.openapi import Operation
    from home.web.pages import Page


def pages(services: Services) -> list[Page]:
    """Return the overview, people, the own account, and the pages of who is not signed in yet."""
    from home.accounts.second_factor import SecondFactor
    from home.pages.account import AccountPages
    from home.pages.erasing import ErasePages
    from home.pages.links import LinkPages
    from home.pages.overview import overview
    from home.pages.people import PeoplePages
    from home.pages.people_one import PersonPages
    from home.pages.second_factor import SecondFactorPages
    from home.pages.sign_in import SignInPages
    from home.pages.trail import pages as trail_pages
    from home.web.pages import Page
    from home.web.people import Who

    settings = services.settings
    factor = SecondFactor.of(services)
    providers = settings.identity_providers
    has_mail = settings.smtp_url is not None
    account = AccountPages(services.db, factor, settings.api_tokens, providers, has_mail)
    sign_in = SignInPages(services.db, factor, settings.registration, providers, has_mail)
    second_factor = SecondFactorPages(services.db, factor, sign_in)
    person = PersonPages(services.db, settings.api_tokens)
    found = [
        Page("/", overview, Who.ANYBODY, "Overview", title_for=Who.ADMINISTRATORS),
        *PeoplePages(services.db).pages(),
        *person.pages(),
        *account.pages(),
        *sign_in.pages(),
        *second_factor.pages(),
        *trail_pages(services),
    ]
    found += LinkPages(services, person).pages()
    found += ErasePages(services, person).pages()
    if has_mail or settings.webhook_url:
        from home.pages.messages import MessagePages

        found += MessagePages(services.db).pages()
    if settings.api_tokens:
        from home.pages.tokens import TokenPages

        found += TokenPages(services.db, account, person).pages()
    if providers:
        from home.accounts.sign_on.flow import SignOn
        from home.pages.sign_on import SignOnPages

        sign_on = SignOn(services.db, providers, settings.registration)
        steps = sign_in.ask_for_code, second_factor.set_up
        found += SignOnPages(services.db, sign_on, factor, *steps).pages()
    return found


def operations(services: Services) -> list[Operation]:
    """Return what people do with their own account, administrators with people, and what the
    trail says."""
    from home.api import accounts, people, trail

    parts: list[Any] = [accounts, people, trail]
    if services.settings.api_tokens:
        from home.api import tokens

        parts.append(tokens)
    return [operation for part in parts for operation in part.operations(services)]


def groups(services: Services) -> list[Group]:
    """Return the accounts of programs, where programs have any."""
    from home.accounts.people import Group

    return [Group("services", "Services", "is_service")] if services.settings.api_tokens else []


def jobs(services: Services) -> list[Job]:
    """Return what is done about sessions, sign-ins and clocks beside the requests."""
    from home.accounts import sessions, throttle
    from home.monitoring import clocks

    return [*sessions.jobs(services), *throttle.jobs(services), *clocks.jobs(services)]


APP = App(
    sentences={
        "users_email_unique": "There is already an account with this e-mail address.",
        "users_email_check": "This is not a valid e-mail address.",
        "users_no_self_approval": "Nobody approves their own account.",
        "users_no_self_appointment": "Nobody makes themselves an auditor.",
        "users_superuser_is_admin": "A superuser is an administrator, too.",
        "identities_issuer_subject_unique": "This identity opens an account already.",
        "users_service_has_no_password": "An account of a program has no password.",
        "users_last_superuser": "The last active superuser stays: appoint another one first.",
    },
    instead={
        "user": "Accounts are not in Piccolo's own table of users: use piccolo home create_user,"
        " list_users, set_password or change_permissions."
    },
    words=WORDS,
    tables="home.backoffice.tables:tables",
    forms="home.backoffice.forms:forms",
    operations=operations,
    pages=pages,
    panels="home.pages.overview:panels",
    notices="home.outbox.of_accounts:notices",
    groups=groups,
    erasers="home.accounts.erasing:erasers",
    jobs=jobs,
)
