from django.db import migrations, models

from apps.runtime.partitions import add_index

INDEXES = {'decision_traffic': 'NOT canary', 'decision_canary': 'canary'}


def add(apps, editor):
    for name, where in INDEXES.items():
        add_index(name, 'workspace_id, id', where)


def drop(apps, editor):
    for name in INDEXES:
        editor.execute(f'DROP INDEX {name}')


class Migration(migrations.Migration):

    # built beside what is written, which no transaction can
    atomic = False

    dependencies = [
        ('runtime', '0010_canaries'),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunPython(add, drop)],
            state_operations=[
                migrations.AddIndex(
                    model_name='decision',
                    index=models.Index(condition=models.Q(('canary', False)), fields=['workspace', 'id'], name='decision_traffic'),
                ),
                migrations.AddIndex(
                    model_name='decision',
                    index=models.Index(condition=models.Q(('canary', True)), fields=['workspace', 'id'], name='decision_canary'),
                ),
            ],
        ),
    ]
