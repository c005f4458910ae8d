from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0006_canaries'),
        ('runtime', '0009_looked'),
    ]

    operations = [
        migrations.AddField(
            model_name='decision',
            name='canary',
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AddField(
            model_name='retention',
            name='for_owners',
            field=models.BooleanField(db_default=False, default=False),
        ),
    ]
