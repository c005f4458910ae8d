"""Every route of /api/v1/."""

from django.urls import path

from apps.accounts import api as accounts
from apps.corpus import api as corpus
from apps.evidence import api as evidence
from apps.guardrails import api as guardrails
from apps.guardrails import checks_api as checks
from apps.labeling import api as labeling
from apps.policies import api as policies
from apps.runtime import api as runtime
from apps.training import api as training
from guardrails_site.views import SchemaView

app_name = "api"

urlpatterns = [
    # first, for it is asked with every message
    path("check", runtime.Check.as_view(), name="check"),
    path("check/batch", runtime.CheckBatch.as_view(), name="check_batch"),
    path("check/stream", runtime.CheckStream.as_view(), name="check_stream"),
    path("policies", policies.PolicyList.as_view(), name="policies"),
    path("policies/<slug:slug>", policies.PolicyDetail.as_view(), name="policy"),
    path("policies/<slug:slug>/draft", policies.PolicyDraftDetail.as_view(), name="draft"),
    path("policies/<slug:slug>/publish", policies.PolicyPublish.as_view(), name="publish"),
    path("policies/<slug:slug>/versions", policies.VersionList.as_view(), name="versions"),
    path(
        "policies/<slug:slug>/versions/<int:number>",
        policies.VersionDetail.as_view(),
        name="version",
    ),
    path(
        "policies/<slug:slug>/versions/<int:number>/diff",
        policies.VersionDiff.as_view(),
        name="version_diff",
    ),
    path("policies/<slug:slug>/roles", policies.RoleList.as_view(), name="roles"),
    path("policies/<slug:slug>/queue/next", labeling.QueueNext.as_view(), name="queue_next"),
    path("policies/<slug:slug>/undo", labeling.Undo.as_view(), name="undo"),
    path("policies/<slug:slug>/models", guardrails.ModelList.as_view(), name="models"),
    path(
        "policies/<slug:slug>/guardrail/calibrate",
        evidence.GuardrailCalibrate.as_view(),
        name="guardrail_calibrate",
    ),
    path(
        "policies/<slug:slug>/models/<int:number>/effect",
        evidence.ModelEffect.as_view(),
        name="model_effect",
    ),
    path(
        "policies/<slug:slug>/models/<int:number>/promote",
        evidence.ModelPromote.as_view(),
        name="model_promote",
    ),
    path("checks", checks.KindList.as_view(), name="checks"),
    path("policies/<slug:slug>/guardrail", checks.GuardrailDetail.as_view(), name="guardrail"),
    path(
        "policies/<slug:slug>/guardrail/publish",
        checks.GuardrailPublish.as_view(),
        name="guardrail_publish",
    ),
    path(
        "policies/<slug:slug>/guardrail/versions",
        checks.GuardrailVersionList.as_view(),
        name="guardrail_versions",
    ),
    path("policies/<slug:slug>/guardrail/try", checks.GuardrailTry.as_view(), name="guardrail_try"),
    path(
        "policies/<slug:slug>/guardrail/effect",
        evidence.GuardrailEffect.as_view(),
        name="guardrail_effect",
    ),
    path("policies/<slug:slug>/exceptions", checks.ExceptionList.as_view(), name="exceptions"),
    path(
        "policies/<slug:slug>/exceptions/<uuid:exception>",
        checks.ExceptionDetail.as_view(),
        name="exception",
    ),
    path("policies/<slug:slug>/cases", evidence.CaseList.as_view(), name="cases"),
    path("policies/<slug:slug>/cases/<uuid:case>", evidence.CaseDetail.as_view(), name="case"),
    path("taxonomies", policies.TaxonomyList.as_view(), name="taxonomies"),
    path("taxonomies/mappings", policies.MappingList.as_view(), name="mappings"),
    path("policies/<slug:slug>/runs", training.RunList.as_view(), name="runs"),
    path("policies/<slug:slug>/metrics", evidence.Metrics.as_view(), name="metrics"),
    path("policies/<slug:slug>/evaluations", evidence.EvaluationList.as_view(), name="evaluations"),
    path(
        "policies/<slug:slug>/examples/<uuid:example>",
        guardrails.ExampleDetail.as_view(),
        name="example",
    ),
    path("examples", guardrails.ExampleList.as_view(), name="examples"),
    path("sources", corpus.SourceList.as_view(), name="sources"),
    path("imports", corpus.ImportList.as_view(), name="imports"),
    path("imports/<uuid:import_id>", corpus.ImportDetail.as_view(), name="import"),
    path("imports/<uuid:import_id>/errors", corpus.ImportErrors.as_view(), name="import_errors"),
    path("imports/<uuid:import_id>/cancel", corpus.ImportCancel.as_view(), name="import_cancel"),
    path("labels", labeling.LabelList.as_view(), name="labels"),
    path("leases/<uuid:lease>/skip", labeling.LeaseSkip.as_view(), name="skip"),
    path("runs/<uuid:run>", training.RunDetail.as_view(), name="run"),
    path("runs/<uuid:run>/cancel", training.RunCancel.as_view(), name="run_cancel"),
    path("evaluations/<uuid:evaluation>", evidence.EvaluationDetail.as_view(), name="evaluation"),
    path(
        "evaluations/<uuid:evaluation>/items",
        evidence.EvaluationItems.as_view(),
        name="evaluation_items",
    ),
    path("decisions", runtime.DecisionList.as_view(), name="decisions"),
    path("decisions/<uuid:decision>", runtime.DecisionDetail.as_view(), name="decision"),
    path("decisions/<uuid:decision>/replay", runtime.DecisionReplay.as_view(), name="replay"),
    path("decisions/<uuid:decision>/feedback", runtime.DecisionFeedback.as_view(), name="feedback"),
    path("incidents", runtime.IncidentList.as_view(), name="incidents"),
    path("incidents/<uuid:incident>", runtime.IncidentDetail.as_view(), name="incident"),
    path("canaries", runtime.CanaryList.as_view(), name="canaries"),
    path("canaries/<uuid:canary>", runtime.CanaryDetail.as_view(), name="canary"),
    path("kill-switch", runtime.KillSwitchDetail.as_view(), name="kill_switch"),
    path("kept-texts", runtime.RetentionDetail.as_view(), name="kept_texts"),
    path("traffic", runtime.TrafficSummary.as_view(), name="traffic"),
    path("members", accounts.MemberList.as_view(), name="members"),
    path("members/<uuid:member>", accounts.MemberDetail.as_view(), name="member"),
    path("tokens", accounts.TokenList.as_view(), name="tokens"),
    path("tokens/<uuid:token>", accounts.TokenDetail.as_view(), name="token"),
    path("audit", accounts.AuditList.as_view(), name="audit"),
    path("health/live", accounts.health_live, name="health_live"),
    path("health/ready", accounts.health_ready, name="health_ready"),
    path("schema", SchemaView.as_view(), name="schema"),
]
