from django.urls import path

from apps.training import views

app_name = "training"

urlpatterns = [
    path("training/", views.run_list, name="list"),
    path("training/workers/", views.workers, name="workers"),
    path("training/<uuid:run>/", views.run, name="run"),
    path("training/<uuid:run>/cancel/", views.cancel, name="cancel"),
    path("policies/<slug:slug>/retrain/", views.start, name="start"),
]
