from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('runtime', '0007_milliseconds'),
    ]

    operations = [
        migrations.AddIndex(
            model_name='decision',
            index=models.Index(condition=models.Q(('action', 'allow'), _negated=True), fields=['workspace', 'action', 'id'], name='decision_action'),
        ),
        migrations.AddIndex(
            model_name='decision',
            index=models.Index(condition=models.Q(('stage__in', ['input', 'output']), _negated=True), fields=['workspace', 'stage', 'id'], name='decision_stage'),
        ),
        migrations.AddIndex(
            model_name='decision',
            index=models.Index(condition=models.Q(('degraded', []), _negated=True), fields=['workspace', 'id'], name='decision_degraded'),
        ),
        # of a function, in the words that models.py asks in
        migrations.RunSQL(
            """
            CREATE INDEX decision_said ON runtime_decision (workspace_id, id)
            WHERE jsonb_path_exists(
                receipt,
                '$[*] ? ((@.action != "" && @.advisory == false) || (@.status == "failed" && @.mode == "enforce"))'
            )::int = 1
            """,
            "DROP INDEX decision_said",
        ),
    ]
