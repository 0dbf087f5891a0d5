from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("console", "0002_job")]

    operations = [
        migrations.AddField(
            model_name="cluster",
            name="asks_sign_in",
            field=models.BooleanField(default=False),
        ),
    ]
