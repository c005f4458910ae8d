from django.urls import path

from apps.guardrails import views

app_name = "guardrails"

urlpatterns = [
    path("policies/<slug:slug>/guardrail/", views.guardrail, name="guardrail"),
]
