"""Every route of the site."""

from django.urls import include, path

from apps.runtime.metrics import Metrics
from apps.runtime.moderations import Moderations
from guardrails_site import views

urlpatterns = [
    path("api/v1/", include("guardrails_site.api_urls")),
    path("", views.home, name="home"),
    path("v1/moderations", Moderations.as_view(), name="moderations"),
    path("health", views.health, name="health"),
    path("metrics", Metrics.as_view(), name="metrics"),
    path("api/docs/", views.api_docs, name="api_docs"),
    path("", include("apps.accounts.urls")),
    path("", include("apps.policies.urls")),
    path("", include("apps.corpus.urls")),
    path("", include("apps.labeling.urls")),
    path("", include("apps.guardrails.urls")),
    path("", include("apps.evidence.urls")),
    path("", include("apps.training.urls")),
    path("", include("apps.runtime.urls")),
]

handler400 = "guardrails_site.views.bad_request"
handler404 = "guardrails_site.views.not_found"
handler500 = "guardrails_site.views.server_error"
