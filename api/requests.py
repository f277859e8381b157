"""Reading a request: strict JSON bodies, and the Idempotency-Key."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import msgspec
from litestar import Request
from litestar.dto import AbstractDTO, DTOFieldDefinition
from litestar.openapi.spec import Operation, Parameter, Schema
from litestar.openapi.spec.enums import OpenAPIType
from litestar.typing import FieldDefinition

from api.problems import ProblemError, problem

T = TypeVar("T")
KEY_PATTERN = r"^[!-~]{8,64}$"
_KEY_CHARACTERS = frozenset(range(0x21, 0x7F))
_KEY_LENGTHS = range(8, 65)
_JSON = b"application/json"


class StrictJson(AbstractDTO[T]):
    """Decodes a body straight into its struct: JSON only, no coercion, unknown fields refused."""

    decoder: ClassVar[msgspec.json.Decoder[Any]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if model := getattr(cls, "model_type", None):
            cls.decoder = msgspec.json.Decoder(model)

    def decode_bytes(self, value: bytes) -> Any:
        """The body. Raises ``ProblemError``."""
        check_is_json(self.asgi_connection.scope["headers"])
        try:
            return self.decoder.decode(value)
        except msgspec.ValidationError as error:
            raise ProblemError(problem("malformed", _field_of(error))) from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise ProblemError(problem("malformed", "The body is not valid JSON.")) from None

    @classmethod
    def generate_field_definitions(cls, model_type: type[Any]) -> Generator[DTOFieldDefinition, None, None]:
        """None: the struct is decoded as it is."""
        yield from ()

    @classmethod
    def detect_nested_field(cls, field_definition: FieldDefinition) -> bool:
        """None is."""
        return False

    @classmethod
    def is_supported_model_type_field(cls, field_definition: FieldDefinition) -> bool:
        """Answers are encoded by the routes."""
        return False

    @classmethod
    def create_for_field_definition(
        cls, field_definition: FieldDefinition, handler_id: str, backend_cls: Any = None
    ) -> None:
        """No transfer model stands between the body and the struct."""

    @classmethod
    def create_openapi_schema(
        cls, field_definition: FieldDefinition, handler_id: str, schema_creator: Any
    ) -> Any:
        """The struct's own schema."""
        return schema_creator.for_field_definition(field_definition)


@dataclass
class Write(Operation):
    """Documents what every write asks for."""

    def __post_init__(self) -> None:
        """Add the header."""
        key = Parameter(
            name="Idempotency-Key",
            param_in="header",
            required=True,
            description="New for each wish; the same when asking again, which gives the same answer.",
            schema=Schema(type=OpenAPIType.STRING, min_length=8, max_length=64, pattern=KEY_PATTERN),
        )
        self.parameters = [*(self.parameters or []), key]


def idempotency_key(request: Request[Any, Any, Any]) -> str:
    """The key of a write. Raises ``ProblemError`` where it is missing, malformed or there twice."""
    values = [value for name, value in request.scope["headers"] if name == b"idempotency-key"]
    if len(values) != 1 or len(values[0]) not in _KEY_LENGTHS or not _KEY_CHARACTERS.issuperset(values[0]):
        raise ProblemError(problem("idempotency-key"))
    return values[0].decode("ascii")


def check_is_json(headers: Any) -> None:
    """Raises ``ProblemError`` unless the body says that it is JSON."""
    for name, value in headers:
        if name == b"content-type":
            if value == _JSON or value.partition(b";")[0].strip().lower() == _JSON:
                return
            break
    raise ProblemError(problem("media-type"))


def _field_of(error: msgspec.ValidationError) -> str:
    """Which of our fields is wrong, without what stood in it: the part of the message that we know."""
    reason, _, place = str(error).rpartition(" - at `$")
    if not reason:
        reason, place = str(error), "`"
    known = ("Expected `", "Object missing required field")
    words = reason if reason.startswith(known) else "This is not valid"
    if "unknown field" in reason:
        words = "There is a field that is not known"
    return f"{words} (at ${place.rstrip('`')})."
