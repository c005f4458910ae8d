from django.db import migrations, models

from apps.runtime.partitions import add_index

INDEXES = {
    'decision_action': ('workspace_id, action, id', "action <> 'allow'"),
    'decision_stage': ('workspace_id, stage, id', "stage NOT IN ('input', 'output')"),
    'decision_degraded': ('workspace_id, id', "degraded <> '[]'::jsonb"),
    # of a function, in the words that models.py asks in
    'decision_said': (
        'workspace_id, id',
        """jsonb_path_exists(
            receipt,
            '$[*] ? ((@.action != "" && @.advisory == false) || @.status == "failed")'
        )::int = 1""",
    ),
}


def add(apps, editor):
    for name, (columns, where) in INDEXES.items():
        add_index(name, columns, where)


def drop(apps, editor):
    for name in INDEXES:
        editor.execute(f'DROP INDEX {name}')


class Migration(migrations.Migration):

    # built beside what is written, which no transaction can
    atomic = False

    dependencies = [
        ('runtime', '0007_milliseconds'),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunPython(add, drop)],
            state_operations=[
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
            ],
        ),
    ]
