"""Where imported data comes from."""

from __future__ import annotations

from django import forms

from apps.accounts.forms import WholeText


class SourceForm(forms.Form):
    source = WholeText(max_length=200, label="Source", help_text="Where these outputs come from.")
    licence = WholeText(max_length=200, required=False, label="Licence")
    consent = forms.ChoiceField(
        label="Consent",
        choices=[
            ("", "choose"),
            ("train", "may be used for training and evaluation"),
            ("evaluate", "may be looked at and evaluated, not trained on"),
        ],
    )
