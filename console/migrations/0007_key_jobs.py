import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("console", "0006_samples"),
    ]

    operations = [
        migrations.AlterField(
            model_name="job",
            name="kind",
            field=models.CharField(
                choices=[
                    ("defragment", "Defragmentation of one member"),
                    ("rolling", "Rolling defragmentation"),
                    ("sizes", "Size scan"),
                    ("snapshot", "Snapshot"),
                    ("open", "Reading of a snapshot"),
                    ("compare", "Comparison"),
                    ("import", "Import"),
                    ("rewind", "Rewind"),
                ],
                max_length=16,
            ),
        ),
        migrations.AlterField(
            model_name="job",
            name="lane",
            field=models.CharField(
                choices=[
                    ("members", "changes members"),
                    ("scan", "reads keys"),
                    ("snapshot", "saves a snapshot"),
                    ("open", "reads a snapshot"),
                    ("keys", "writes keys"),
                ],
                default="members",
                max_length=16,
            ),
        ),
        migrations.CreateModel(
            name="JobBatch",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("number", models.PositiveIntegerField()),
                ("changes", models.PositiveIntegerField()),
                ("first", models.BinaryField()),
                ("last", models.BinaryField()),
                ("state", models.CharField(max_length=10)),
                ("revision", models.BigIntegerField(default=0)),
                ("conflicts", models.JSONField(default=list)),
                ("conflicts_more", models.PositiveIntegerField(default=0)),
                ("detail", models.TextField(blank=True, default="")),
                (
                    "job",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="batches",
                        to="console.job",
                    ),
                ),
            ],
            options={"ordering": ["number"]},
        ),
        migrations.AddConstraint(
            model_name="jobbatch",
            constraint=models.UniqueConstraint(fields=("job", "number"), name="one_result_a_batch"),
        ),
    ]
