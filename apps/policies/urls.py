from django.urls import path

from apps.policies import views

app_name = "policies"

urlpatterns = [
    path("policies/", views.policy_list, name="list"),
    path("policies/new/", views.create, name="create"),
    path("policies/<slug:slug>/", views.specification, name="specification"),
    path("policies/<slug:slug>/edit/", views.edit, name="edit"),
    path("policies/<slug:slug>/publish/", views.publish, name="publish"),
    path("policies/<slug:slug>/versions/<int:number>/", views.version, name="version"),
    path("policies/<slug:slug>/settings/", views.settings, name="settings"),
    path("policies/<slug:slug>/roles/", views.set_role, name="set_role"),
    path("policies/<slug:slug>/categories/", views.set_categories, name="set_categories"),
    path("taxonomies/", views.taxonomy_list, name="taxonomies"),
    path("taxonomies/add/", views.add_taxonomy, name="add_taxonomy"),
    path("taxonomies/map/", views.map_category, name="map_category"),
    path("policies/<slug:slug>/retire/", views.retire, name="retire"),
]
