#!/usr/bin/env bash
# lightning 2.6.6 writes a value that was logged once again at every later logging step of its epoch, as float32.
#
# Expected: what a callback logs with `pl_module.log(…, on_step=True, on_epoch=False)` at one step is written at that step, as
# the number that it is.
# Seen (2026-11-29, Linux x86_64, torch 2.13.0 on CPU): of 10 steps that are all written, with a value logged at the third one
# only, the CSV log has it at steps 2 to 9. 16777217 becomes 16777216.
#
# carbonmon has new figures at most once a second. Written through `log`, old ones would look like those of later steps. Its
# callback therefore writes to `trainer.loggers` itself: carbonmon/integrations/lightning.py.
#
# Needs some 2 GB in the temporary folder. Exit code: 0 as described, 1 different now, 2 the packages cannot be had.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet lightning==2.6.6 torch==2.13.0 2>/dev/null || exit 2
venv/bin/python - <<'PYTHON' >log 2>&1
import lightning
import torch
from lightning.pytorch.loggers import CSVLogger


class Once(lightning.Callback):
    def on_train_batch_end(self, trainer, module, outputs, batch, number):
        if number == 2:
            module.log("once", 16777217.0, on_step=True, on_epoch=False)


class Network(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch, number):
        loss = self.layer(batch[0]).mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(10, 2)))
lightning.Trainer(
    max_epochs=1,
    log_every_n_steps=1,
    accelerator="cpu",
    logger=CSVLogger(".", name="", version="csv"),
    callbacks=[Once()],
    enable_checkpointing=False,
).fit(Network(), loader)
PYTHON
now=$(venv/bin/python - <<'PYTHON'
import csv

rows = csv.DictReader(open("csv/metrics.csv"))
print(" ".join(f"{row['step']}:{float(row['once']):.0f}" for row in rows if row["once"]))
PYTHON
)
echo "seen now: $now"
[ "$now" = "$(seq 2 9 | sed 's/$/:16777216/' | paste -sd ' ')" ]
