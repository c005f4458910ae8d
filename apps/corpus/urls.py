from django.urls import path

from apps.corpus import views

app_name = "corpus"

urlpatterns = [
    path("policies/<slug:slug>/data/", views.data, name="data"),
    path("policies/<slug:slug>/data/<uuid:example>/", views.example, name="example"),
    path("policies/<slug:slug>/import/", views.upload, name="upload"),
    path("imports/<uuid:import_id>/map/", views.map_columns, name="map"),
    path("imports/<uuid:import_id>/", views.import_detail, name="import"),
    path("imports/<uuid:import_id>/rejected.csv", views.rejected_rows, name="rejected_rows"),
    path("imports/<uuid:import_id>/cancel/", views.cancel, name="cancel"),
]
