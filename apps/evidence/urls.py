from django.urls import path

from apps.evidence import views

app_name = "evidence"

urlpatterns = [
    path("policies/<slug:slug>/evidence/", views.evidence, name="evidence"),
    path("policies/<slug:slug>/figures/", views.figures, name="figures"),
    path("policies/<slug:slug>/evidence/guardrail/", views.whole_guardrail, name="whole_guardrail"),
    path(
        "policies/<slug:slug>/guardrail/publish/",
        views.publish_guardrail,
        name="publish_guardrail",
    ),
    path("policies/<slug:slug>/models/<int:number>/promote/", views.promote_model, name="promote"),
    path("policies/<slug:slug>/cases/", views.case_list, name="cases"),
    path("policies/<slug:slug>/cases/state/", views.cases_state, name="cases_state"),
    path("policies/<slug:slug>/cases/add/", views.add_case, name="add_case"),
    path(
        "policies/<slug:slug>/cases/<uuid:case>/withdraw/",
        views.withdraw_case,
        name="withdraw_case",
    ),
    path("evaluations/<uuid:evaluation>/", views.evaluation, name="evaluation"),
]
