from django.urls import path

from apps.evidence import views

app_name = "evidence"

urlpatterns = [
    path("policies/<slug:slug>/evidence/", views.evidence, name="evidence"),
    path("policies/<slug:slug>/figures/", views.figures, name="figures"),
    path("evaluations/<uuid:evaluation>/", views.evaluation, name="evaluation"),
]
