from django.urls import path

from apps.accounts import views

app_name = "accounts"

urlpatterns = [
    path("sign-in/", views.sign_in, name="sign_in"),
    path("sign-out/", views.sign_out, name="sign_out"),
    path("password/", views.password, name="password"),
    path("preferences/", views.preferences, name="preferences"),
    path("workspace/", views.choose_workspace, name="choose_workspace"),
    path("people/", views.people, name="people"),
    path("people/<uuid:member>/", views.member, name="member"),
    path("people/<uuid:member>/tokens/", views.issue_token, name="issue_token"),
    path("tokens/<uuid:token>/revoke/", views.revoke_token, name="revoke_token"),
    path("audit/", views.audit, name="audit"),
]
