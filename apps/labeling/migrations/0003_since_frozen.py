from django.db import migrations, models

_COUNT = """
UPDATE labeling_labelcounter counter SET since_frozen = train_given - train_frozen,
    frozen = CASE WHEN train_given = train_frozen THEN sequence ELSE coalesce((
        SELECT max(watermark) FROM labeling_datasetversion dataset
        WHERE dataset.policy_id = counter.policy_id
    ), 0) END
"""
_COUNT_BACK = "UPDATE labeling_labelcounter SET train_given = since_frozen, train_frozen = 0"


class Migration(migrations.Migration):

    dependencies = [("labeling", "0002_constant_references")]

    operations = [
        migrations.AddField("labelcounter", "frozen", models.BigIntegerField(default=0)),
        migrations.AddField("labelcounter", "since_frozen", models.BigIntegerField(default=0)),
        migrations.RunSQL(_COUNT, _COUNT_BACK),
        migrations.RemoveField("labelcounter", "train_given"),
        migrations.RemoveField("labelcounter", "train_frozen"),
    ]
