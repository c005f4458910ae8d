"""Form fields that keep text as it was sent, and the forms of people and tokens."""

from __future__ import annotations

from typing import Any

from django import forms

from apps.accounts.actor import SCOPES
from apps.accounts.models import CHECKS_PER_SECOND, Role
from apps.accounts.tokens import DEFAULT_DAYS, MAXIMUM_DAYS, MOST_CHECKS_PER_SECOND


class WholeText(forms.CharField):
    """Text kept byte for byte; only the CRLF a browser made of LF is turned back."""

    def __init__(self, **options: Any) -> None:
        super().__init__(strip=False, **options)

    def to_python(self, value: Any) -> str:
        return str(super().to_python(value) or "").replace("\r\n", "\n")


class SignInForm(forms.Form):
    email = forms.EmailField(
        label="E-mail", widget=forms.EmailInput(attrs={"autocomplete": "username"})
    )
    password = forms.CharField(
        strip=False, widget=forms.PasswordInput(attrs={"autocomplete": "current-password"})
    )


class PasswordForm(forms.Form):
    current = forms.CharField(
        label="Current password",
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )
    new = forms.CharField(
        label="New password (12 characters or more)",
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )


class MemberForm(forms.Form):
    email = forms.EmailField(label="E-mail")
    name = WholeText(required=False, max_length=200)
    role = forms.ChoiceField(choices=Role.choices)


class TokenForm(forms.Form):
    name = WholeText(max_length=200, label="What it is for")
    scopes = forms.MultipleChoiceField(
        choices=[(scope, f"{scope}: {what}") for scope, what in SCOPES.items()],
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose what the token is for."},
    )
    days = forms.IntegerField(
        min_value=1, max_value=MAXIMUM_DAYS, initial=DEFAULT_DAYS, label="Valid for so many days"
    )
    checks_per_second = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=MOST_CHECKS_PER_SECOND,
        initial=CHECKS_PER_SECOND,
        label="Checks a second",
    )

    def clean_checks_per_second(self) -> int:
        return int(self.cleaned_data["checks_per_second"] or CHECKS_PER_SECOND)
