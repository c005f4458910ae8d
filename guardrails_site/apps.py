from django.apps import AppConfig


class GuardrailsSiteConfig(AppConfig):
    name = "guardrails_site"
    label = "guardrails_site"

    def ready(self) -> None:
        from guardrails_site import wiring

        wiring.connect()
