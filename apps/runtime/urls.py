from django.urls import path

from apps.runtime import views

app_name = "runtime"

urlpatterns = [
    path("playground/", views.playground, name="playground"),
    path("decisions/", views.decision_list, name="decisions"),
    path("decisions/<uuid:decision>/", views.decision, name="decision"),
    path("decisions/<uuid:decision>/replay/", views.replay, name="replay"),
    path("decisions/<uuid:decision>/feedback/", views.feedback, name="feedback"),
    path("incidents/", views.incident_list, name="incidents"),
    path("incidents/<uuid:incident>/", views.incident, name="incident"),
    path("incidents/<uuid:incident>/move/", views.move_incident, name="move_incident"),
    path("serving/", views.serving, name="serving"),
    path("serving/kill-switch/", views.kill_switch, name="kill_switch"),
    path("serving/kept-texts/", views.keep_texts, name="keep_texts"),
    path("serving/canaries/", views.add_canary, name="add_canary"),
    path("serving/canaries/<uuid:canary>/remove/", views.remove_canary, name="remove_canary"),
]
