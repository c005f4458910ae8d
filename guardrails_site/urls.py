"""Every route of the site."""

from django.urls import include, path

urlpatterns = [
    path("api/v1/", include("guardrails_site.api_urls")),
]
