from django.urls import path

from apps.guardrails import views

app_name = "guardrails"

urlpatterns = [
    path("policies/<slug:slug>/guardrail/", views.guardrail, name="guardrail"),
    path("policies/<slug:slug>/guardrail/checks/", views.checks, name="checks"),
    path("policies/<slug:slug>/guardrail/restore/", views.restore, name="restore"),
    path("policies/<slug:slug>/exceptions/", views.exceptions, name="exceptions"),
    path(
        "policies/<slug:slug>/exceptions/<uuid:exception>/end/",
        views.end_exception,
        name="end_exception",
    ),
]
