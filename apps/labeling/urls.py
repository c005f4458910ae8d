from django.urls import path

from apps.labeling import views

app_name = "labeling"

urlpatterns = [
    path("label/", views.choose, name="choose"),
    path("label/<slug:slug>/", views.workbench, name="workbench"),
    path("label/<slug:slug>/submit/", views.submit, name="submit"),
    path("label/<slug:slug>/skip/", views.skip, name="skip"),
    path("label/<slug:slug>/undo/", views.undo, name="undo"),
    path("label/<slug:slug>/text/", views.whole_text, name="whole_text"),
    path("policies/<slug:slug>/labels/", views.label_list, name="labels"),
]
