"""The energy of a training in Keras' log of each epoch: `model.fit(…, callbacks=[CarbonmonCallback(), …])`.

For Keras 3 on each of its back ends. It comes first: callbacks before it do not see its keys.
"""

from __future__ import annotations

from typing import Any

import keras

from carbonmon.integrations.amounts import checked
from carbonmon.integrations.figures import Counts
from carbonmon.integrations.guard import guarded
from carbonmon.integrations.ranks import counts_here
from carbonmon.integrations.session import Session


class CarbonmonCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """Counts batches where they begin: a callback that waits for their end makes the loop wait for each loss.

    `samples`, `tokens` and `flops` are what one step has, on all processes; `ValueError` of what is no number
    from 0 on.
    """

    def __init__(
        self, *, samples: float | None = None, tokens: float | None = None, flops: float | None = None
    ) -> None:
        super().__init__()
        self._each = [None if value is None else checked(value) for value in (samples, tokens, flops)]
        self._session = Session()
        self._before = 0
        self._is_first_test = False
        self._begun: int | None = None

    @guarded
    def on_train_begin(self, logs: Any = None) -> None:
        self._session.enter()

    @guarded
    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self._session.meter is None:
            steps, epochs = self.params.get("steps"), self.params.get("epochs")
            self._before = epoch * (steps or 0)
            self._is_first_test = epoch == 0
            if counts_here():
                length = steps * epochs if steps and epochs else None
                precision = self.model.dtype_policy.compute_dtype
                self._session.measure(self._counts(self._before), length, precision)

    @guarded
    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """The batches before this one have been given to the device."""
        self._begun = batch
        if self._session.meter is not None and batch:
            self._session.meter.count(self._counts(self._before + batch))
        if self._session.is_to_stop():
            self.model.stop_training = True

    @guarded
    def on_test_begin(self, logs: Any = None) -> None:
        """Without a progress bar nobody has waited for the losses of the epoch."""
        self._end_epoch()
        if self._session.meter is not None and self._session.meter.has_steps:
            if self._is_first_test:  # Keras tells no callback when validations come: as the first one did
                self._is_first_test = False
                self._session.announce(lambda: (self._before, None))
            self._session.meter.cut(on_host=bool(self.params.get("verbose")))

    @guarded
    def on_test_end(self, logs: Any = None) -> None:
        if self._session.meter is not None:
            self._session.meter.cut()

    @guarded
    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._end_epoch()
        if self._session.meter is not None and logs is not None:
            # In each epoch, however short: History's lists have an element for each.
            logs.update(self._session.meter.figures(always=True))

    @guarded
    def on_train_end(self, logs: Any = None) -> None:
        self._session.leave()

    def _end_epoch(self) -> None:
        """Its last batches are done, those of one execution; the data may have been at an end before."""
        begun, self._begun = self._begun, None
        if begun is None:
            return
        done, steps = begun + int(self.model.steps_per_execution), self.params.get("steps")
        if steps:
            done = min(done, steps)
        elif keras.backend.backend() != "torch" and not self.model.stop_training:
            done = begun  # JAX and TensorFlow announce a batch before they see that there is none
        self._before += done
        if self._session.meter is not None:
            self._session.meter.count(self._counts(self._before))

    def _counts(self, steps: int) -> Counts:
        return Counts(steps, None, *(None if each is None else each * steps for each in self._each))
