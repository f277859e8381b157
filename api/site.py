"""What the routes share: the engine, while the app's lifespan has it open, and the metrics."""

from api.answers import Answers
from api.metrics import Metrics
from engine.bootstrap import Engine


class Site:
    """Made with the app; filled when its lifespan begins."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self._engine: Engine | None = None
        self._answers: Answers | None = None

    def open(self, engine: Engine) -> None:
        """The engine is loaded."""
        self._engine, self._answers = engine, Answers(engine, self.metrics)

    @property
    def engine(self) -> Engine:
        """The open engine."""
        if self._engine is None:
            raise RuntimeError("the app's lifespan has not opened the engine")
        return self._engine

    @property
    def answers(self) -> Answers:
        """Writes what the engine answers."""
        if self._answers is None:
            raise RuntimeError("the app's lifespan has not opened the engine")
        return self._answers
